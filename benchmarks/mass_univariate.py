"""Mass-univariate pooling: the same studies at many locations, k = 1 and k = 2, beside PyMARE.

    python benchmarks/mass_univariate.py [--share 1.0] [--cases NAME ...] [--missing 0.2]
        [--out FILE.md]

Neuroimaging: 20 studies at 200,000 locations (and at 20,000, the target of `spec/engine.md`);
genetics: 10 cohorts, 1,000,000 variants; each with one outcome, with one outcome and missing
cohorts, and with two outcomes of which each misses cohorts of its own. PyMARE's REML, for one
outcome without missing cohorts, runs on the same data in the same process. Times are of a second
call (compiled); the peak of memory is of the process so far, and of the device where it tells: for
that of one case run it alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from pathlib import Path

import numpy as np

import mixmeta_jax as mx

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks import machine

CASES = {  # name: studies, locations, outcomes, whether cohorts are missing
    "small": (20, 20_000, 1, False),
    "imaging": (20, 200_000, 1, False),
    "imaging-missing": (20, 200_000, 1, True),
    "imaging-2": (20, 200_000, 2, True),
    "genetics": (10, 1_000_000, 1, False),
    "genetics-missing": (10, 1_000_000, 1, True),
    "genetics-2": (10, 1_000_000, 2, True),
}
COMPARED = 20_000
"""Locations that PyMARE fits, and those of the first call."""


def data(n: int, B: int, k: int, missing: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes, NaN where a cohort is missing, and error variances, shape (B, n, k)."""
    rng = np.random.default_rng(seed)
    v = rng.uniform(0.02, 0.3, (B, n, k))
    tau2 = rng.uniform(0.0, 0.3, (B, 1, 1))
    y = 0.2 + rng.normal(size=v.shape) * np.sqrt(v + tau2)
    if missing:
        y[rng.random(y.shape) < missing] = np.nan
    return y, v


def pymare(y: np.ndarray, v: np.ndarray) -> tuple[float, np.ndarray] | None:
    """Seconds and tau^2 of PyMARE's REML, where it is installed."""
    if importlib.util.find_spec("pymare") is None:
        return None
    from pymare.estimators import VarianceBasedLikelihoodEstimator

    X = np.ones((y.shape[1], 1))
    start = time.perf_counter()
    estimator = VarianceBasedLikelihoodEstimator(method="REML").fit(
        y=y[..., 0].T, X=X, v=v[..., 0].T
    )
    return time.perf_counter() - start, np.ravel(estimator.params_["tau2"])


HEAD = (
    "| case | data sets | missing | time | processor | first call | peak memory | data | ended | "
    "PyMARE | tau² apart: median, most |",
    "| --- " * 11 + "|",
)


def row(name: str, share: float, missing: float) -> str:
    """The line of a case, with PyMARE's time on the first of its data sets."""
    n, full, k, gaps = CASES[name]
    B = int(full * share)
    y, v = data(n, B, k, missing if gaps else 0.0)
    settings = {"returns": ("coef", "se", "Psi", "loglik", "status"), "progress": False}
    small = min(B, COMPARED)
    start = time.perf_counter()
    mx.fit_many(y[:small], v[:small], **settings)
    first = time.perf_counter() - start
    start, processor = time.perf_counter(), time.process_time()
    fits = mx.fit_many(y, v, **settings)
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    peak = machine.memory(*machine.peaks())
    ended = ", ".join(
        f"{(fits.status == status).sum():,} {status.name}"
        for status in mx.Status
        if (fits.status == status).any()
    )
    cells = [
        name,
        f"{n} x {B:,}, k = {k}",
        f"{np.isnan(y).mean():.0%}",
        f"{seconds:.2f} s",
        f"{processor:.2f} s",
        f"{first:.2f} s",
        peak,
        f"{(y.nbytes + v.nbytes) / 2**30:.2f} GB",
        ended,
    ]
    theirs = pymare(y[:small], v[:small]) if k == 1 and not gaps else None
    if theirs is None:
        cells += ["", ""]
    else:
        away = np.abs(fits.Psi[:small, 0, 0] - theirs[1])
        cells += [
            f"{theirs[0]:.2f} s for {small:,}",
            f"{np.median(away):.1e}, {away.max():.1e}",
        ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the lines of all cases, or of those that are named."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--share", type=float, default=1.0, help="of the locations")
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--missing", type=float, default=0.2, help="share of the cohorts")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    lines = [f"# Mass-univariate pooling: {machine.device()}", "", *HEAD]
    print("\n".join(lines), flush=True)
    for name in given.cases:
        lines.append(row(name, given.share, given.missing))
        print(lines[-1], flush=True)
    machine.written(lines, given.out)


if __name__ == "__main__":
    main()
