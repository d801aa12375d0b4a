"""Small fitted models of every class, with Ψ of each level in its natural parameters."""

import functools

import numpy as np
import pandas as pd

import mixmeta_jax as mx
from tests import dense_inference as by_hand

TIMES = (0.0, 0.7, 2.0)


def _long(seed, m, size, k=1, missing=0.0, between=0.8):
    """Units in m groups of ``size`` each, unequal, with a predictor at each level."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(max(size - 1, 1), size + 2, m) if size > 1 else np.ones(m, int)
    group = np.repeat(np.arange(m), counts)
    n = len(group)
    frame = pd.DataFrame({"g": group, "u": np.arange(n)})
    frame["x"] = rng.normal(1, 1, n)
    frame["w"] = rng.normal(size=m)[group]
    frame["t"] = np.concatenate([np.arange(c) for c in counts])
    effects = rng.normal(0, between, (m, k))[group] + rng.normal(0, 0.5, (n, k))
    slopes = rng.normal(0, 0.5, (m, 1))[group] * frame[["x"]].to_numpy()
    y = 0.5 + effects + slopes + rng.normal(0, 0.3, (n, k))
    for o in range(k):
        frame[f"y{o + 1}"] = y[:, o]
    if missing:
        gone = rng.random((n, k)) < missing
        gone[np.arange(n), rng.integers(0, k, n)] = False
        for o in range(k):
            frame.loc[gone[:, o], f"y{o + 1}"] = np.nan
    for o in range(k):
        frame[f"v{o + 1}"] = rng.uniform(0.05, 0.3, n)
    return frame, rng


def _univariate():
    frame, _ = _long(1, 12, 1)
    return mx.mixmeta("y1 ~ x", "v1", frame, control=NUMPY), [by_hand.unstructured(1)]


def _multivariate():
    frame, _ = _long(2, 14, 1, k=2, missing=0.25)
    fit = mx.mixmeta("y1 + y2 ~ x", ["v1", "v2"], frame, rho=0.3, control=NUMPY)
    return fit, [by_hand.unstructured(2)]


def _two_levels():
    frame, _ = _long(3, 7, 4)
    fit = mx.mixmeta("y1 ~ x + w", "v1", frame, random="~ 1 | g/u", control=NUMPY)
    return fit, [by_hand.unstructured(1)] * 2


def _random_slope():
    frame, _ = _long(4, 9, 5)
    fit = mx.mixmeta("y1 ~ x", "v1", frame, random="~ x | g", control=NUMPY)
    return fit, [by_hand.unstructured(2)]


def _three_outcomes_two_levels():
    frame, _ = _long(5, 8, 4, k=3, missing=0.15)
    fit = mx.mixmeta(
        "y1 + y2 + y3 ~ 1", ["v1", "v2", "v3"], frame, random="~ 1 | g/u", bscov="cs", control=NUMPY
    )
    return fit, [by_hand.compound(3)] * 2


def _three_levels():
    frame, _ = _long(6, 8, 6)
    frame["h"] = frame["t"] // 2
    fit = mx.mixmeta("y1 ~ x", "v1", frame, random="~ 1 | g/h/u", control=NUMPY)
    return fit, [by_hand.unstructured(1)] * 3


def _blocks(seed=7):
    frame, rng = _long(seed, 10, 4)
    S = {}
    for g, rows in frame.groupby("g"):
        root = rng.normal(size=(len(rows), len(rows)))
        S[g] = 0.05 * root @ root.T + np.diag(rows["v1"])
    return frame, S


def _blocks_of_errors():
    frame, S = _blocks()
    fit = mx.mixmeta("y1 ~ x + w", S, frame, random="~ 1 | g", control=NUMPY)
    return fit, [by_hand.unstructured(1)]


def _dose_response():
    frame, S = _blocks(8)
    frame["dose"] = frame["t"] + frame["x"].abs()
    frame["y1"] = 0.4 * frame["dose"] + (frame["y1"] - 0.5) * frame["dose"] * 0.5
    fit = mx.mixmeta("y1 ~ 0 + dose", S, frame, random="~ 0 + dose | g", control=NUMPY)
    return fit, [by_hand.unstructured(1)]


def _network():
    frame, _ = _long(9, 16, 1, k=3, missing=0.35)
    M = np.eye(3) + 1
    fit = mx.mixmeta(
        "y1 + y2 + y3 ~ 1",
        ["v1", "v2", "v3"],
        frame,
        rho=0.5,
        bscov="prop",
        Psi_fix=M,
        control=NUMPY,
    )
    return fit, [by_hand.proportional(M)]


def _structured(bscov, psi, **given):
    def build():
        frame, _ = _long(10, 18, 1, k=3, missing=0.1)
        fit = mx.mixmeta(
            "y1 + y2 + y3 ~ 1", ["v1", "v2", "v3"], frame, bscov=bscov, control=NUMPY, **given
        )
        return fit, [psi]

    return build


def _ml():
    frame, _ = _long(11, 9, 4)
    fit = mx.mixmeta("y1 ~ x", "v1", frame, random="~ 1 | g/u", method="ml", control=NUMPY)
    return fit, [by_hand.unstructured(1)] * 2


NUMPY = {"backend": "numpy"}
LAGS = np.abs(np.subtract.outer(range(3), range(3))).astype(float)
GAPS = np.abs(np.subtract.outer(TIMES, TIMES))
C = np.array([[1.0, 0.3, 0.2], [0.3, 1.0, 0.4], [0.2, 0.4, 1.0]])

MODELS = {
    "univariate": _univariate,
    "multivariate, missing outcomes": _multivariate,
    "two levels": _two_levels,
    "random slope": _random_slope,
    "three outcomes, two levels": _three_outcomes_two_levels,
    "three levels": _three_levels,
    "blocks of S": _blocks_of_errors,
    "dose-response": _dose_response,
    "network": _network,
    "diag": _structured("diag", by_hand.diagonal(3)),
    "id": _structured("id", by_hand.identity(3)),
    "hcs": _structured("hcs", by_hand.exchangeable(3)),
    "ar1": _structured("ar1", by_hand.one_scale(LAGS)),
    "har1": _structured("har1", by_hand.scaled(LAGS)),
    "car1": _structured(mx.ContinuousAR1(TIMES), by_hand.one_scale(GAPS)),
    "hcar1": _structured(mx.HeterogeneousContinuousAR1(TIMES), by_hand.scaled(GAPS)),
    "cor": _structured("cor", by_hand.given_correlation(C), Psi_fix=C),
}


@functools.cache
def fitted(name):
    """The fit, and per level Ψ of its natural parameters and these of a Ψ."""
    fit, maps = MODELS[name]()
    assert fit.status.name == "CONVERGED", (name, fit.status, fit.Psi)
    return fit, maps
