"""Columns less their parts along the random predictors: the likelihood is the same for any."""

import jax
import numpy as np
import pytest

from mixmeta_jax.design.tensors import arrange, masked
from mixmeta_jax.likelihood import shifts
from mixmeta_jax.likelihood.likelihood import profile
from mixmeta_jax.likelihood.shifts import shifted
from mixmeta_jax.likelihood.sweep import downward, upward
from tests.designs import random_design

KINDS = {
    "one absorbed level": {"k": 1, "q": (1,), "n": 12, "codes": [np.repeat(np.arange(4), 3)]},
    "random slope, two outcomes, some missing": {
        "k": 2,
        "q": (2,),
        "n": 24,
        "codes": [np.repeat(np.arange(4), 6)],
    },
    "two levels": {"k": 2, "q": (1, 1), "n": 14},
    "three levels, rows below": {
        "k": 1,
        "q": (2, 1, 1),
        "n": 40,
        "codes": [np.arange(40) // 10, np.arange(40) // 5, np.arange(40) // 2],
    },
    "blocks of S, larger than taken in whole": {
        "k": 1,
        "q": (1,),
        "n": 36,
        "codes": [np.repeat(np.arange(3), 12)],
        "blocks": True,
        "missing": 0.0,
    },
}


def figures(design, tensors):
    """All sums that the likelihood and its derivatives are made of, by the two sweeps."""
    rng = np.random.default_rng(0)
    roots = [rng.normal(size=(d, d)) for d in design.dims]
    Psi = tuple((root @ root.T)[:, :, None] for root in roots)
    up = upward(Psi, tensors)
    solution = profile(up)
    down = downward(up, tensors, solution.beta, solution.root)
    sums = up.A, up.b, up.c, up.logdet, down.traces, down.products, down.scores
    return jax.tree.leaves((sums, down.residuals, down.precisions))


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * np.abs(b).max(initial=0))


@pytest.mark.parametrize("kind", KINDS)
def test_the_sweeps_give_the_same(kind, monkeypatch):
    design = random_design(3, **KINDS[kind])
    tensors = masked(arrange(design))
    assert tensors.absorbed
    expected = figures(design, tensors)
    assert_same(figures(design, shifted(tensors)), expected)
    # And with any other coefficients.
    regression, rng = shifts._regression, np.random.default_rng(1)

    def another(*args, **options):
        B = regression(*args, **options)
        return B + rng.normal(size=B.shape)

    monkeypatch.setattr(shifts, "_regression", another)
    assert_same(figures(design, shifted(tensors)), expected)


def test_the_coefficients_are_those_of_regressions_within_groups():
    """Of the complete rows, each with the mean of 1/S over its outcomes for its weight."""
    design = random_design(3, **KINDS["random slope, two outcomes, some missing"])
    [B] = shifted(masked(arrange(design))).shifts
    B = B.reshape(2, 2, *B.shape[1:])[:, :, -1, :, 0]  # of y: (q, k, groups and padding)
    complete = design.mask.all(1)
    for group in range(4):
        rows = np.flatnonzero((np.arange(24) // 6 == group) & complete)
        assert len(rows) >= 2
        root = np.sqrt((1 / np.einsum("nkk->nk", design.S[rows])).mean(1))[:, None]
        Z, y = design.Z[0][rows], design.y[rows]
        expected = np.linalg.lstsq(Z * root, y * root, rcond=None)[0]
        np.testing.assert_allclose(B[:, :, group], expected, rtol=1e-5)
    assert (B[:, :, 4:] == 0).all()
