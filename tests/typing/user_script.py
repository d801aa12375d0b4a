"""What a user writes, with the types that a user sees: it is checked by mypy, and runs.

Nothing here is annotated for the checker's sake. ``assert_type`` holds what an editor shows of the
calls whose result depends on their arguments; ``reveal_type`` would only print it.
"""

from typing import Any, assert_type

import numpy as np
import pandas as pd

import mixmeta_jax as mx
from mixmeta_jax.choices import Method

# A first fit

bcg = mx.load_dataset("bcg")
fit = mx.mixmeta("logor ~ ablat", S="logorvar", data=bcg)
assert_type(fit, mx.Fit[pd.DataFrame])
print(fit.summary(), repr(fit), fit.report(digits=2))
print(fit.coef["ablat"], fit.vcov.loc["ablat", "ablat"], fit.loglik, fit.aic, fit.status.sentence)
print(fit.params, fit.bse, fit.pvalues, fit.conf_int(alpha=0.1), fit.llf, fit.tau2, fit.n_obs)
print(fit.confint(test="knha"), fit.tidy(), fit.glance()["I2"].round(1), fit.augment().head())
test = fit.wald_test("ablat", test="t", df="residual")
print(test.statistic, test.pvalue)
for left in fit.dropped.itertuples():
    print(left)

# The covariance of the random effects: a frame, by level, or none

assert_type(fit.Psi, pd.DataFrame)
print(np.sqrt(fit.Psi.to_numpy()), fit.Psi.loc["(Intercept)"].max())
fixed = mx.mixmeta("logor", S="logorvar", data=bcg, method="fixed")
assert_type(fixed.Psi, None)
school = mx.load_dataset("school")
nested = mx.mixmeta("effect", S="var", data=school, random="~ 1 | district/study", method="REML")
assert_type(nested.Psi, Any)
print({level: Psi.iloc[0, 0] for level, Psi in nested.Psi.items()})

# Predictions and BLUPs: a frame, with covariances a pair

new = pd.DataFrame({"ablat": [10.0, 50.0]})
assert_type(fit.predict(), pd.DataFrame)
assert_type(fit.predict(new, ci=True, pi=True, prob=0, transform="exp"), pd.DataFrame)
predicted, covariances = fit.predict(new, vcov=True)
assert_type(covariances, np.ndarray)
assert_type(fit.predict(new, vcov="joint", se=True), tuple[pd.DataFrame, pd.DataFrame])
print(predicted["fit"].max(), covariances[0, 0, 0])
assert_type(fit.blup(), pd.DataFrame)
assert_type(nested.blup("district", by="group", se=True, se_method="exact"), pd.DataFrame)
assert_type(fit.blup(vcov=True), tuple[pd.DataFrame, np.ndarray])
blups, joint = nested.blup("district", vcov="joint", by="group")
print(blups["blup"].round(2), joint.iloc[:2, :2], nested.ranef("district", se=True).head(2))
outcomes = fit.simulate(20, seed=1)
assert_type(outcomes, np.ndarray)

# Tests, variances, heterogeneity, diagnostics

print(fit.summary(test="kenward-roger").coefficients, fit.reference("satterthwaite"))
robust = fit.robust(type="CR2")
print(robust.confint(simultaneous="goldstein"), robust.vcov, robust.wald_test("ablat").pvalue)
print(fit.varcomp(ci="profile"), fit.varcomp(ci=None), fit.profile(values=[0.0, 0.1]))
print(fit.qtest(), fit.i2(), fit.h2(form="ratio"), fit.r2(fit.update(formula="logor ~ 1")))
print(fit.influence()["cook"].idxmax(), fit.resid("standardised"), fit.resid(type="pearson").max())
print(fit.update(hold={"unit": {"var(Intercept)": 0.1}}).loglik)
bootstrap = fit.bootstrap_inference(n=19, seed=1, progress=False)
print(bootstrap.coefficients, bootstrap.varcomp(), bootstrap.n_fitted)

# Comparisons: of fits, terms, means

small = mx.mixmeta("logor", S="logorvar", data=bcg, method="ml")
large = small.update("~ . + alloc")
print(mx.compare(small, large, names=["mean", "allocation"]).table, mx.lr_test(small, large).pvalue)
print(large.drop_terms().table, small.add_terms(["ablat", "year"], test="wald").table)
print(large.means("alloc", weights="observed"), large.contrasts("alloc", simultaneous="max-t"))
methods: list[Method] = ["fixed", "ml", "reml", "dl"]
fits = {name: mx.mixmeta("logor", S="logorvar", data=bcg, method=name) for name in methods}
print(pd.DataFrame({name: one.glance().iloc[0] for name, one in fits.items()}))

# Several outcomes, structures, errors

berkey = mx.load_dataset("berkey98")
S = ["var_PD", "cov_PD_AL", "var_AL"]
both = mx.mixmeta("PD + AL ~ pubyear", S=S, data=berkey, bscov="diag", control={"max_iter": 50})
mx.mixmeta("PD + AL ~ 1", S=S, data=berkey, bscov=mx.CompoundSymmetry(), control=mx.Control())
mx.mixmeta(
    "effect",
    S="var",
    data=school,
    random={"district": "~ 1", "study": "~ 1"},
    bscov={"district": "id", "study": mx.Diagonal()},
)
gliomas = mx.load_dataset("gliomas")
blocks = mx.ar1_blocks(gliomas, "study", "logORvar", 0.6, time="time", unit=6)
print(mx.mixmeta("logOR ~ time", S=blocks, data=gliomas, random="~ 1 | study").coef.round(3))
trials = pd.DataFrame({"d": [4, 6], "n": [123, 306], "d0": [11, 11], "n0": [139, 139], "s": [1, 1]})
effects = mx.effect_sizes(
    "logor", trials, events="d", total="n", control_events="d0", control_total="n0"
)
assert_type(effects, pd.DataFrame)
effects, shared = mx.effect_sizes(
    "RD", trials, study="s", events="d", total="n", control_events="d0", control_total="n0"
)
print(effects["effect"], shared[1], mx.vech(mx.inputcov([[0.1, 0.2]], 0.5)))

# Many data sets

many = mx.fit_many(outcomes[:, :, 0], bcg["logorvar"], "~ ablat", data=bcg, progress=False)
print(many.coef["ablat"].mean(), many.coef[:, 1].std(), many.vcov["ablat", "ablat"].max())
print(many.converged.all(), many.to_frame().head(2), len(many), many.coef.to_frame().describe())
print(
    mx.fit_many(outcomes[:, :, 0], bcg["logorvar"], returns=["coef", "Q"], progress=False).Q.max()
)
print(mx.bootstrap(fit, n=19, kind="groups", progress=False).coef.std(0))
print(mx.leave_one_out(fit, progress=False).iloc[0], mx.cumulative(fit, order="year").iloc[-1])
print(mx.permutation_test(fit, "ablat", n=19, progress=False).pvalue)
scenario = {"y": np.zeros(13), "S": np.full(13, 0.1), "Psi": [[0.3]], "coef": [0.0]}
print(mx.simulation_study({"one": scenario}, nsim=20, progress=False)["coverage"])

# Two stages

first = {name: ([0.2 * i, 0.1], np.eye(2)) for i, name in enumerate(["Rome", "Oslo", "Bonn"])}
pooled = mx.pool(first, bscov="id")
print(mx.curves(pooled, basis=[[0.0, 0.0], [1.0, 2.0]], at=[0, 10])["curve"])

# Pictures, and what is wrong

axes = fit.plot.forest(labels="trial", transform="exp")
ax, drawn = mx.plots.bubble(fit, "ablat", return_data=True)
ax.set_title("BCG")
print(drawn["kind"].value_counts())
try:
    mx.mixmeta("logor ~ latitude", S="logorvar", data=bcg)
except mx.InputError as error:
    print(error)


def pooled_effect(fitted: mx.Fit, name: str = "(Intercept)") -> float:
    """A function of one's own over any fit."""
    return float(fitted.coef[name])


print(pooled_effect(fit), pooled_effect(nested), pooled_effect(both, "PD.(Intercept)"))
