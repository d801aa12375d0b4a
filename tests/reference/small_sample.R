# Makes small_sample.json: Rscript tests/reference/small_sample.R, from the root of the repository.
suppressMessages({library(metafor); library(clubSandwich); library(lme4); library(pbkrtest); library(jsonlite)})
out <- list()
out$versions <- list(R=as.character(getRversion()), metafor=as.character(packageVersion("metafor")), clubSandwich=as.character(packageVersion("clubSandwich")), lme4=as.character(packageVersion("lme4")), pbkrtest=as.character(packageVersion("pbkrtest")))
cr <- function(m, cluster, types, what) {
  found <- list()
  for (t in types) {
    V <- vcovCR(m, cluster=cluster, type=t)
    ct <- as.data.frame(coef_test(m, vcov=V, test="Satterthwaite"))
    w <- as.data.frame(Wald_test(m, constraints=constrain_zero(seq_along(coef(m))), vcov=V, test="HTZ"))
    found[[t]] <- list(se=ct$SE, df=ct$df_Satt, p=ct$p_Satt, F=w$Fstat, df_denom=w$df_denom, p_joint=w$p_val)
  }
  found
}
types <- c("CR0","CR1","CR1S","CR1p","CR2","CR3")
d <- read.csv("mixmeta_jax/datasets/school.csv"); d$decade <- (d$year-1990)/10
m <- rma.mv(effect, var, mods=~decade, random=~1|district/study, data=d, control=list(rel.tol=1e-12, iter.max=1000, eval.max=2000))
out$school <- list(call="rma.mv(effect, var, mods = ~ I((year - 1990)/10), random = ~ 1 | district/study, data = school); vcovCR(m, cluster = district, type); coef_test(test = 'Satterthwaite'); Wald_test(constrain_zero(1:2), test = 'HTZ')", sigma2=m$sigma2, coef=as.numeric(coef(m)), CR=cr(m, d$district, types))
b <- read.csv("mixmeta_jax/datasets/berkey98.csv")
long <- data.frame(trial=rep(b$trial, each=2), outcome=rep(c("1PD","2AL"), nrow(b)), y=as.numeric(rbind(b$PD, b$AL)))
blocks <- lapply(seq_len(nrow(b)), function(i) matrix(c(b$var_PD[i], b$cov_PD_AL[i], b$cov_PD_AL[i], b$var_AL[i]), 2))
m <- rma.mv(y, metafor::bldiag(blocks), mods=~outcome-1, random=~outcome|trial, struct="UN", data=long, control=list(optimizer="optim", optmethod="BFGS", reltol=1e-15, maxit=2000))
out$berkey98 <- list(call="rma.mv(y, bldiag(S), mods = ~ outcome - 1, random = ~ outcome | trial, struct = 'UN'), outcomes stacked by trial; vcovCR(m, cluster = trial, type)", coef=as.numeric(coef(m)), CR=cr(m, long$trial, types))
d <- read.csv("mixmeta_jax/datasets/bcg.csv")
m <- rma.uni(logor, logorvar, mods=~ablat, data=d, control=list(threshold=1e-12, maxiter=1000))
out$bcg <- list(call="rma.uni(logor, logorvar, mods = ~ ablat, data = bcg); vcovCR(m, cluster = 1:13, type)", tau2=m$tau2, CR=cr(m, seq_len(13), types))
m <- rma.uni(logor, logorvar, mods=~ablat, data=d, control=list(threshold=1e-12, maxiter=1000))
g <- (seq_len(13)-1) %/% 2
out$bcg_pairs <- list(call="the same, cluster = (0:12) %/% 2", CR=cr(m, g, types))
m <- rma.uni(logor, logorvar, mods=~ablat, data=d, test="knha", control=list(threshold=1e-12, maxiter=1000))
ma <- rma.uni(logor, logorvar, mods=~ablat, data=d, test="adhoc", control=list(threshold=1e-12, maxiter=1000))
out$knha <- list(call="rma.uni(logor, logorvar, mods = ~ ablat, data = bcg, test = 'knha' | 'adhoc')", se=as.numeric(m$se), QM=m$QM, QMp=m$QMp, adhoc_se=as.numeric(ma$se), s2w=m$s2w)
m <- rma.uni(logor, logorvar, data=d, method="REML", test="adhoc"); out$knha$adhoc_bcg_mean <- list(se=m$se, s2w=m$s2w)
s <- read.csv("mixmeta_jax/datasets/school.csv")
m <- rma.mv(effect, var, random=~1|district/study, data=s, test="t", dfs="contain"); out$contain <- list(call="rma.mv(effect, var, random = ~ 1 | district/study, data = school, test = 't', dfs = 'contain')$ddf", ddf=as.numeric(m$ddf), ci=c(m$ci.lb, m$ci.ub))
s$decade <- (s$year-1990)/10; s$w <- s$district %% 3; s$region <- s$district %% 7; s$r <- c(-1,0,2,1,3,-2,1)[s$region+1]; s$row <- seq_len(nrow(s))
two <- rma.mv(effect, var, mods=~w+decade, random=~1|district/study, data=s, dfs="contain")
three <- rma.mv(effect, var, mods=~r+decade, random=list(~1|region, ~1|district, ~1|row), data=s, dfs="contain")
out$contain_mods <- list(call="rma.mv(effect, var, mods = ~ w + decade, random = ~ 1 | district/study, dfs = 'contain')$ddf with w = district %% 3, decade = (year - 1990)/10; rma.mv(effect, var, mods = ~ r + decade, random = list(~ 1 | region, ~ 1 | district, ~ 1 | row), dfs = 'contain')$ddf with region = district %% 7, r = c(-1, 0, 2, 1, 3, -2, 1)[region + 1]", two=as.numeric(two$ddf), three=as.numeric(three$ddf))
set.seed(20261127)
n <- c(3,5,4,6,2,5,4,3); grp <- rep(seq_along(n), n)
x <- round(rnorm(sum(n)),2); w <- round(rnorm(8),2)[grp]
y <- round(1 + 0.5*x + 0.3*w + rnorm(8,0,.8)[grp] + rnorm(8,0,.6)[grp]*x + rnorm(sum(n),0,.7),2)
dd <- data.frame(g=grp,x=x,w=w,y=y)
kr <- function(form, L) {
  f <- lmer(form, dd, REML=TRUE, control=lmerControl(optimizer="bobyqa", optCtrl=list(rhoend=1e-12, maxfun=1e5)))
  V <- as.matrix(vcovAdj(f))
  joint <- KRmodcomp(f, L)$test
  one <- sapply(seq_along(fixef(f)), function(i) { r <- rep(0,length(fixef(f))); r[i] <- 1; get_Lb_ddf(f, r) })
  vc <- as.data.frame(VarCorr(f))
  list(coef=as.numeric(fixef(f)), vcov_adj=V, df=one, F=joint["Ftest","stat"], df_denom=joint["Ftest","ddf"], scale=joint["Ftest","F.scaling"], p=joint["Ftest","p.value"], vc=vc$vcov)
}
L <- rbind(c(0,1,0),c(0,0,1))
out$lmm <- list(call="lmer(y ~ x + w + (1 | g)), vcovAdj, KRmodcomp(f, rbind(c(0,1,0), c(0,0,1))), get_Lb_ddf", data=dd, intercept=kr(y~x+w+(1|g), L), slope=kr(y~x+w+(x|g), L), diagonal=kr(y~x+w+(x||g),L))
write(toJSON(out, digits=14, auto_unbox=TRUE, pretty=FALSE), "tests/reference/small_sample.json")
