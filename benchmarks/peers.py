"""The same data, the same run, the same machine: other programs beside us, where installed.

R's metafor through Rscript (``apt-get install r-cran-metafor``), PyMARE, statsmodels and mixmetapy
from PyPI.
Each program is warm: the least of several fits, after one that is not counted; the numbers are
compared before the times.

    python benchmarks/peers.py
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from single_fits import multivariate

import mixmeta_jax as mx


def least(run: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Seconds of the fastest of some runs after a first, and the result of the last."""
    result = run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = run()
        times.append(time.perf_counter() - start)
    return min(times), result


R_SCRIPT = """
suppressPackageStartupMessages(library(metafor))
d <- read.csv("{file}")
run <- function() {call}
fit <- run()
seconds <- min(replicate({repeats}, system.time(run())[["elapsed"]]))
cat(sprintf("%.9f %.12f %.12f", seconds, fit$b[1], {tau2}))
"""


def metafor(data: pd.DataFrame, call: str, tau2: str, repeats: int) -> tuple[float, float, float]:
    """Seconds, first coefficient and first variance of a call of R metafor."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "data.csv"
        data.to_csv(file, index=False)
        script = R_SCRIPT.format(file=file, call=call, tau2=tau2, repeats=repeats)
        done = subprocess.run(["Rscript", "-e", script], capture_output=True, text=True, check=True)
    seconds, b, variance = map(float, done.stdout.split())
    return seconds, b, variance


def report(case: str, peer: str, ours: float, theirs: float, apart: float) -> None:
    print(
        f"| {case} | {peer} | {ours * 1e3:.1f} ms | {theirs * 1e3:,.1f} ms | "
        f"{theirs / ours:,.0f} x | {apart:.0e} |",
        flush=True,
    )


def against_metafor() -> None:
    bcg, school = mx.load_dataset("bcg"), mx.load_dataset("school")
    ours, fit = least(lambda: mx.mixmeta("logor", S="logorvar", data=bcg), 50)
    call = 'rma(logor, logorvar, data=d, method="REML", control=list(threshold=1e-10))'
    theirs, b, tau2 = metafor(bcg, call, "fit$tau2", 20)
    apart = max(abs(fit.coef.iloc[0] - b), abs(fit.Psi.iloc[0, 0] - tau2))
    report("bcg", "metafor rma", ours, theirs, apart)
    arguments = {"S": "var", "data": school, "random": "~ 1 | district/study"}
    ours, fit = least(lambda: mx.mixmeta("effect", **arguments), 50)
    call = "rma.mv(effect, var, random = ~ 1 | district/study, data=d)"
    theirs, b, variance = metafor(school, call, "fit$sigma2[1]", 5)
    outer = fit.Psi["district"].iloc[0, 0]
    apart = max(abs(fit.coef.iloc[0] - b), abs(outer - variance))
    report("school, two levels", "metafor rma.mv", ours, theirs, apart)


def against_pymare() -> None:
    from pymare.estimators import VarianceBasedLikelihoodEstimator

    bcg = mx.load_dataset("bcg")
    ours, fit = least(lambda: mx.mixmeta("logor", S="logorvar", data=bcg), 50)
    y, v = bcg[["logor"]].to_numpy(), bcg[["logorvar"]].to_numpy()
    estimator = VarianceBasedLikelihoodEstimator(method="REML")
    theirs, found = least(lambda: estimator.fit(y=y, X=np.ones_like(y), v=v), 20)
    apart = abs(fit.coef.iloc[0] - float(np.ravel(found.params_["fe_params"])[0]))
    report("bcg", "PyMARE", ours, theirs, apart)


def against_statsmodels() -> None:
    """By Paule and Mandel's method: statsmodels has no likelihood for meta-analysis."""
    from statsmodels.stats.meta_analysis import combine_effects

    bcg = mx.load_dataset("bcg")
    ours, fit = least(lambda: mx.mixmeta("logor", S="logorvar", data=bcg, method="pm"), 50)
    y, v = bcg.logor.to_numpy(), bcg.logorvar.to_numpy()
    options = {"method_re": "iterated", "atol": 1e-12, "maxiter": 500}
    theirs, found = least(lambda: combine_effects(y, v, **options), 20)
    apart = max(abs(fit.coef.iloc[0] - found.mean_effect_re), abs(fit.Psi.iloc[0, 0] - found.tau2))
    report("bcg, Paule and Mandel", "statsmodels", ours, theirs, apart)


def against_mixmetapy(m: int, repeats: int) -> None:
    from mixmetapy import mixmeta

    data = multivariate(m, 4)
    ours, fit = least(lambda: mx.mixmeta(**data), 20)
    theirs, found = least(lambda: mixmeta(data["formula"], data["S"], method="reml"), repeats)
    apart = np.abs(fit.coef.to_numpy() - np.ravel(found.coef)).max()
    report(f"{m} x 4, unstructured", "mixmetapy", ours, theirs, float(apart))


def main() -> None:
    print("| case | peer | ours | theirs | faster | largest difference |")
    print("| --- | --- | --- | --- | --- | --- |")
    if shutil.which("Rscript"):
        against_metafor()
    if importlib.util.find_spec("pymare"):
        against_pymare()
    if importlib.util.find_spec("statsmodels"):
        against_statsmodels()
    if importlib.util.find_spec("mixmetapy"):
        against_mixmetapy(31, 3)
        against_mixmetapy(200, 1)


if __name__ == "__main__":
    main()
