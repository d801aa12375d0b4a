"""Mass-univariate pooling: the same studies at many locations, k = 1 and k = 2, beside PyMARE.

    python benchmarks/mass_univariate.py [share of the locations, 1.0]

Neuroimaging: 20 studies at 20,000 and 200,000 locations; genetics: 10 cohorts, 1,000,000 variants;
two outcomes with cohorts that miss one of them: 20 studies at 20,000 locations. Times are of a
second call (compiled); the peak of memory is of the process so far.
"""

from __future__ import annotations

import importlib.util
import resource
import sys
import time

import jax
import numpy as np

import mixmeta_jax as mx

CASES = (
    ("20 studies", 20, 20_000, 1),
    ("20 studies", 20, 200_000, 1),
    ("10 cohorts", 10, 1_000_000, 1),
    ("20 studies, 2 outcomes, 20 % missing", 20, 20_000, 2),
)


def data(n: int, B: int, k: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes and error variances, shape (B, n, k)."""
    rng = np.random.default_rng(seed)
    v = rng.uniform(0.02, 0.3, (B, n, k))
    tau2 = rng.uniform(0.0, 0.3, (B, 1, 1))
    y = 0.2 + rng.normal(size=v.shape) * np.sqrt(v + tau2)
    if k > 1:
        y[..., 1] = np.where(rng.random((B, n)) < 0.2, np.nan, y[..., 1])
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


def main(share: float) -> None:
    """Print a line per case."""
    print(f"jax {jax.__version__}, {jax.local_devices()}")
    for name, n, full, k in CASES:
        B = int(full * share)
        y, v = data(n, B, k)
        settings = {"returns": ("coef", "se", "Psi", "loglik", "status"), "progress": False}
        start = time.perf_counter()
        mx.fit_many(y[: min(B, 20_000)], v[: min(B, 20_000)], **settings)
        first = time.perf_counter() - start
        start, processor = time.perf_counter(), time.process_time()
        fits = mx.fit_many(y, v, **settings)
        seconds, processor = time.perf_counter() - start, time.process_time() - processor
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{name} x {B}: {seconds:.2f} s ({processor:.2f} s of processor; first call "
            f"{first:.2f} s), peak {peak:.2f} GB, {fits}",
            flush=True,
        )
        small = min(B, 20_000)
        theirs = pymare(y[:small], v[:small]) if k == 1 else None
        if theirs is not None:
            away = np.abs(fits.Psi[:small, 0, 0] - theirs[1])
            print(
                f"    PyMARE, the first {small}: {theirs[0]:.2f} s; tau^2 differs by "
                f"{np.median(away):.1e} (median), {away.max():.1e} (largest)"
            )


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
