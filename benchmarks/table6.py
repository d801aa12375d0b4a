"""Table 6 of the paper: eight scenarios of k = 3 outcomes in two levels, drawn, fitted, compared.

    python benchmarks/table6.py [data sets per scenario, 10000] [script | text | both]

The error standard deviations are drawn once per scenario: uniform on [0.5, 2] in the authors'
script, while the paper's text has variances uniform on [0.1, 2]. ``rho_b`` is the correlation at
both random levels and ``rho_w`` that of the errors; the paper prints ``rho_b`` first (see the
biases of the correlations). A difference is marked with * where it is beyond three Monte Carlo
errors of the two studies together.
"""

from __future__ import annotations

import sys
import time

import jax
import numpy as np
import pandas as pd

import mixmeta_jax as mx
from mixmeta_jax.performance import performance

PUBLISHED = {  # (m, first printed correlation, second): bias, RMSE, coverage, τ1, τ2, ρ_b1, ρ_b2
    (10, 0.0, 0.0): (0.000, 0.349, 0.940, -0.006, 0.004, 0.004, -0.004),
    (50, 0.0, 0.0): (-0.001, 0.157, 0.948, -0.001, 0.001, 0.002, -0.001),
    (10, 0.8, 0.0): (-0.005, 0.351, 0.930, -0.005, 0.005, -0.045, -0.003),
    (50, 0.8, 0.0): (0.001, 0.154, 0.951, -0.000, 0.001, -0.007, 0.000),
    (10, 0.0, 0.8): (0.003, 0.357, 0.934, -0.007, 0.004, -0.019, -0.030),
    (50, 0.0, 0.8): (-0.004, 0.155, 0.949, 0.001, 0.000, 0.002, -0.007),
    (10, 0.8, 0.8): (-0.006, 0.347, 0.928, -0.006, -0.001, -0.058, -0.015),
    (50, 0.8, 0.8): (0.001, 0.153, 0.951, 0.000, 0.000, -0.008, -0.003),
}
COLUMNS = ("bias", "rmse", "coverage", "tau1", "tau2", "rho_b1", "rho_b2")
EXPLANATION = (
    "Beyond three Monte Carlo errors (which count the data sets alone; the error SDs are drawn "
    "once\nper scenario, the authors' draw is not known, and every measure depends on it):"
)
K, INNER, CHUNK = 3, 10, 2_000


def correlated(rho: float) -> np.ndarray:
    """Compound symmetry with unit variances."""
    return rho * np.ones((K, K)) + (1 - rho) * np.eye(K)


def design(m: int, rho_w: float, reading: str, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Groups, and error covariances drawn once."""
    rng = np.random.default_rng(seed)
    n = m * INNER
    sd = rng.uniform(0.5, 2.0, (n, K))
    if reading == "text":
        sd = np.sqrt(rng.uniform(0.1, 2.0, (n, K)))
    table = pd.DataFrame({"g": np.repeat(np.arange(m), INNER), "u": np.arange(n)})
    return table, sd[:, :, None] * sd[:, None] * correlated(rho_w)


def scenario(m: int, rho_b: float, rho_w: float, reading: str, nsim: int, seed: int) -> dict:
    """Measures of one scenario, their Monte Carlo errors, and the seconds it took."""
    table, S = design(m, rho_w, reading, seed)
    Psi = [correlated(rho_b)] * 2
    parts, drawing, fitting = [], 0.0, 0.0
    for first in range(0, nsim, CHUNK):
        start = time.perf_counter()
        y = mx.mixmeta_sim(
            np.zeros((len(table), K)),
            S,
            Psi,
            random="~ 1 | g/u",
            data=table,
            nsim=min(CHUNK, nsim - first),
            seed=seed,
            first=first,
        )
        between = time.perf_counter()
        fits = mx.fit_many(
            y,
            S,
            random="~ 1 | g/u",
            data=table,
            bscov="cs",
            returns=("coef", "se", "Psi", "converged", "status"),
            progress=False,
        )
        drawing += between - start
        fitting += time.perf_counter() - between
        parts.append(measures(fits))
    values = np.concatenate(parts)
    first_outcome = performance(values[:, 0], values[:, 1], 0.0)
    found = {name: first_outcome[name] for name in COLUMNS[:3]}
    errors = {name: first_outcome[f"{name}_mcse"] for name in COLUMNS[:3]}
    for j, (name, truth) in enumerate(zip(COLUMNS[3:], (1.0, 1.0, rho_b, rho_b), strict=True)):
        own = values[:, 2 + j]
        own = own[np.isfinite(own)]
        found[name] = own.mean() - truth
        errors[name] = own.std(ddof=1) / np.sqrt(len(own))
    return {
        "found": found,
        "errors": errors,
        "drawing": drawing,
        "fitting": fitting,
        "converged": np.isfinite(values[:, 0]).mean(),
    }


def measures(fits: mx.ManyFits) -> np.ndarray:
    """β₁, its standard error, τ₁², τ₂², ρ_b1 and ρ_b2 of each data set; NaN if not converged."""
    levels = [fits.Psi["g"], fits.Psi["u"]]
    variances = [P[:, 0, 0] for P in levels]
    with np.errstate(divide="ignore", invalid="ignore"):
        correlations = [P[:, 0, 1] / P[:, 0, 0] for P in levels]
    values = np.column_stack([fits.coef[:, 0], fits.se[:, 0], *variances, *correlations])
    return np.where(fits.converged[:, None], values, np.nan)


def main(nsim: int, readings: tuple[str, ...]) -> None:
    """Print the table of every reading beside the published one."""
    print(f"{nsim} data sets per scenario; jax {jax.__version__}, {jax.local_devices()}")
    for reading in readings:
        what = "sd ~ U(0.5, 2)" if reading == "script" else "variance ~ U(0.1, 2)"
        print(f"\nerrors: {what}\n   m rho_b rho_w  " + "".join(f"{c:>22}" for c in COLUMNS))
        total = {"drawing": 0.0, "fitting": 0.0}
        differences: list[str] = []
        begun = time.perf_counter()
        for number, ((m, rho_b, rho_w), published) in enumerate(PUBLISHED.items()):
            result = scenario(m, rho_b, rho_w, reading, nsim, seed=100 + number)
            cells = []
            for column, theirs in zip(COLUMNS, published, strict=True):
                ours, error = result["found"][column], result["errors"][column]
                beyond = abs(ours - theirs) > 3 * error * np.sqrt(1 + nsim / 10_000) + 0.0005
                if beyond:
                    away = (ours - theirs) / (error * np.sqrt(1 + nsim / 10_000))
                    where = f"m = {m}, rho_b = {rho_b}, rho_w = {rho_w}"
                    differences.append(
                        f"{where}, {column}: {ours:.4f}, published {theirs:.3f}, "
                        f"{away:+.1f} Monte Carlo errors"
                    )
                cells.append(f"{ours:9.3f}({error:.3f}){theirs:6.3f}{'*' if beyond else ' '}")
            for name in total:
                total[name] += result[name]
            print(
                f"{m:4d} {rho_b:5.1f} {rho_w:5.1f}  {''.join(cells)}  "
                f"{1e3 * result['fitting'] / nsim:.3f} ms a fit, "
                f"{100 * result['converged']:.1f} % converged",
                flush=True,
            )
        seconds = time.perf_counter() - begun
        print(EXPLANATION if differences else "No difference beyond three Monte Carlo errors.")
        for line in differences:
            print(f"    {line}")
        print(
            f"{8 * nsim} data sets in {seconds:.1f} s: {total['drawing']:.1f} s drawing, "
            f"{total['fitting']:.1f} s fitting (compilation included)"
        )


if __name__ == "__main__":
    chosen = sys.argv[2] if len(sys.argv) > 2 else "both"
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 10_000,
        ("script", "text") if chosen == "both" else (chosen,),
    )
