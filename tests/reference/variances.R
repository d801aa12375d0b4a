# Makes variances.json: Rscript tests/reference/variances.R, from the root of the repository.
suppressMessages({library(metafor); library(jsonlite)})
out <- list(versions=list(R=as.character(getRversion()), metafor=as.character(packageVersion("metafor"))))
tight <- list(rel.tol=1e-10, iter.max=2000, eval.max=4000)
ends <- list(tol=1e-11)
ci <- function(x) as.numeric(x$random[1,])
d <- read.csv("mixmeta_jax/datasets/bcg.csv")
m <- rma.uni(logor, logorvar, mods=~ablat, data=d, control=list(threshold=1e-12, maxiter=1000))
out$bcg <- list(
  call="rma.uni(logor, logorvar, mods = ~ ablat, data = bcg); confint(m, type = 'QP' | 'PL', control = list(tol = 1e-11))",
  QP=ci(confint(m, type="QP", control=ends)), PL=ci(confint(m, type="PL", control=ends)))
s <- read.csv("mixmeta_jax/datasets/school.csv")
m <- rma.mv(effect, var, random=~1|district/study, data=s, control=tight)
one <- function(m, ...) ci(confint(m, ..., control=ends))
out$school <- list(
  call="rma.mv(effect, var, random = ~ 1 | district/study, data = school); confint(m, sigma2 = 1 | 2)",
  sigma2=list(one(m, sigma2=1), one(m, sigma2=2)),
  held=as.numeric(logLik(rma.mv(effect, var, random=~1|district/study, sigma2=c(0.1, NA), data=s, control=tight))))
b <- read.csv("mixmeta_jax/datasets/berkey98.csv")
long <- data.frame(trial=rep(b$trial, each=2), outcome=rep(c("PD", "AL"), nrow(b)))
long$outcome <- factor(long$outcome, levels=c("PD", "AL"))
long$y <- as.vector(rbind(b$PD, b$AL))
V <- bldiag(lapply(seq_len(nrow(b)), function(i) matrix(c(b$var_PD[i], b$cov_PD_AL[i], b$cov_PD_AL[i], b$var_AL[i]), 2)))
fit <- function(...) rma.mv(y, V, mods=~outcome-1, random=~outcome|trial, data=long, control=tight, ...)
ll <- function(...) as.numeric(logLik(fit(...)))
m <- fit(struct="UN")
out$berkey <- list(
  call="rma.mv(y, V, mods = ~ outcome - 1, random = ~ outcome | trial, struct, data = long); confint(m, tau2 = 1 | 2); confint(m, rho = 1)",
  tau2=list(one(m, tau2=1), one(m, tau2=2)), rho=one(m, rho=1),
  held=list(
    un_rho=ll(struct="UN", rho=-0.4), un_tau2=ll(struct="UN", tau2=c(0.05, NA)),
    hcs_rho=ll(struct="HCS", rho=0.3), cs_rho=ll(struct="CS", rho=0.3), cs_tau2=ll(struct="CS", tau2=0.05),
    ar_rho=ll(struct="AR", rho=0.7), har_tau2=ll(struct="HAR", tau2=c(NA, 0.05)), diag_tau2=ll(struct="DIAG", tau2=c(0.05, NA)),
    id_tau2=ll(struct="ID", tau2=0.05)))
write(toJSON(out, digits=14, auto_unbox=TRUE, pretty=TRUE), "tests/reference/variances.json")
