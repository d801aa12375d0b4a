"""Which covariance parameters are identified: against dense matrices, and where counts say so."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mixmeta_jax as mx
from mixmeta_jax.covariance.catalogue import resolve_structures
from mixmeta_jax.errors import InputError
from mixmeta_jax.table.identified import interior, lacking, obvious, psi_and_slopes

NAMES = ("unstr", "diag", "id", "cs", "hcs", "ar1", "har1")


def dense_rank(X, Z, groups, seen, slopes):
    """Rank of the matrices Q Σ_a Q, written out, and their number."""
    n, k = seen.shape
    at = np.flatnonzero(seen.ravel())
    H = np.kron(X, np.eye(k))[at]
    Q = np.eye(len(at)) - H @ np.linalg.pinv(H)
    columns = []
    for z, codes, slope in zip(Z, groups.T, slopes, strict=True):
        rows = np.kron(z, np.eye(k))[at]
        same = np.equal.outer(codes, codes).repeat(k, 0).repeat(k, 1)[np.ix_(at, at)]
        for a in range(slope.shape[2]):
            moved = rows @ slope[:, :, a] @ rows.T * same
            columns.append((Q @ moved @ Q / max(np.linalg.norm(moved), 1e-300)).ravel())
    return np.linalg.matrix_rank(np.array(columns), tol=1e-5), len(columns)


def slopes_of(structures, Z, k):
    return [
        psi_and_slopes(s, interior(s, z, k), k * z.shape[1])[1]
        for s, z in zip(structures, Z, strict=True)
    ]


@st.composite
def models(draw):
    """Small designs, many of them on the edge: few groups, slopes, missing outcomes, levels."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, k = draw(st.integers(2, 9)), draw(st.integers(1, 3))
    L, q = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    outer = rng.integers(0, draw(st.integers(1, 4)), n)
    inner = rng.integers(0, draw(st.integers(1, n)), n)
    columns = [np.unique(outer, return_inverse=True)[1]]
    if L == 2:
        columns.append(np.unique(outer * n + inner, return_inverse=True)[1])
    x = rng.normal(size=n)
    X = np.column_stack([np.ones(n), x])[:, : draw(st.integers(1, 2))]
    Z = [np.column_stack([np.ones(n), x if draw(st.booleans()) else rng.normal(size=n)])[:, :q]] * L
    seen = rng.random((n, k)) > draw(st.sampled_from([0.0, 0.3]))
    seen[0] = True
    name = draw(st.sampled_from(NAMES if k * q > 1 else NAMES[:3]))
    structures = resolve_structures(name, None, ["a", "b"][:L], [k * q] * L)
    return X, Z, np.column_stack(columns), seen, structures


@given(models())
@settings(max_examples=100, deadline=None)
def test_the_sum_over_groups_has_the_rank_of_dense_matrices(model):
    X, Z, groups, seen, structures = model
    slopes = slopes_of(structures, Z, seen.shape[1])
    rank, number = dense_rank(X, Z, groups, seen, slopes)
    lack = lacking(X, Z, groups, seen, slopes)
    assert len(lack[0]) == number - rank
    if obvious(seen[None], Z, groups, X.shape[1])[0]:
        assert rank == number


def test_obvious_models_are_asked_nothing():
    one = [np.ones((10, 1))]
    every, tied = np.arange(10)[:, None], np.repeat(np.arange(5), 2)[:, None]
    whole = np.ones((1, 10, 1), bool)
    assert obvious(whole, one, every, 9)[0] and not obvious(whole, one, every, 10)[0]
    assert obvious(whole, one, tied, 4)[0] and not obvious(whole, one, tied, 5)[0]
    nested = np.column_stack([tied[:, 0], np.arange(10)])
    assert obvious(whole, one * 2, nested, 2)[0]
    whole[0, 1] = False  # an outer group with one inner group left
    assert not obvious(whole, one * 2, nested, 2)[0]
    assert not obvious(whole, [np.ones((10, 2))], every, 1)[0]
    # Two outcomes together in four rows, each alone in three more.
    seen = np.ones((1, 10, 2), bool)
    seen[0, 4:7, 0] = seen[0, 7:, 1] = False
    assert obvious(seen, one, every, 3)[0] and not obvious(seen, one, every, 4)[0]
    seen[0, 2:4, 0] = False
    assert obvious(seen, one, every, 1)[0] and not obvious(seen, one, every, 2)[0]


def table(m, size=3, seed=0):
    rng = np.random.default_rng(seed)
    n = m * size
    return pd.DataFrame(
        {"y": rng.normal(size=n), "v": 0.1, "g": np.repeat(np.arange(m), size)}
        | {f"x{j}": rng.normal(size=n) for j in range(size)}
    )


@pytest.mark.parametrize("name", ["id", "cs", "prop"])
def test_one_group_can_identify_the_variances_of_many_effects(name):
    data = table(1, 8)
    random = "~ 0 + " + " + ".join(f"x{j}" for j in range(8)) + " | g"
    Psi_fix = np.eye(8) if name == "prop" else None
    fit = mx.mixmeta("y", "v", data, random, bscov=name, Psi_fix=Psi_fix, method="ml")
    assert fit.converged and np.isfinite(fit.loglik)
    with pytest.raises(InputError, match=r"the variance of 'x0'.*at level 'g'.*'diag', one group"):
        mx.mixmeta("y ~ x0", "v", data, random, bscov="diag")


def test_an_unstructured_matrix_from_fewer_groups_than_effects_is_fitted():
    rng = np.random.default_rng(13)
    A = np.array([np.cov(rng.normal(size=(12, 6)).T) * 0.05 for _ in range(5)])
    fit = mx.pool((rng.normal(0, 0.3, (5, 6)), A))
    assert fit.status is mx.Status.BOUNDARY
    # R mixmeta 1.2.1, REML.
    assert fit.loglik > 0.249038 - 1e-6
    assert np.linalg.matrix_rank(fit.Psi.to_numpy(), tol=1e-6) == 3


def test_the_number_of_groups_does_not_tell():
    """One group less than effects is enough, and many groups need not be."""
    data = table(12)
    with pytest.raises(InputError, match=r"'g' .*12 groups\) beside .*'h' .*12 groups"):
        mx.mixmeta("y", "v", data.assign(h=1), "~ 1 | g/h")
    with pytest.raises(InputError, match="one group"):
        mx.mixmeta("y", "v", data.assign(h=1), "~ 1 | h")


def test_large_designs_are_asked_group_by_group():
    n = 20_000
    codes = np.column_stack([np.repeat(np.arange(n // 4), 4), np.arange(n)])
    rng = np.random.default_rng(0)
    X = np.column_stack([np.ones(n), rng.normal(size=n)])
    structures = resolve_structures("unstr", None, ["a", "b"], [2, 2])
    slopes = slopes_of(structures, [X, X], 1)
    assert len(lacking(X, [X, X], codes, np.ones((n, 1), bool), slopes)[0]) == 0
    # The inner level is the outer one: the whole is asked.
    same = codes[:, [0, 0]]
    assert len(lacking(X, [X, X], same, np.ones((n, 1), bool), slopes)[0]) == 3


@pytest.mark.parametrize("method", ["reml", "vc"])
def test_predictors_that_overflow_end_without_a_warning(method):
    data = pd.DataFrame({"y": [0.1, 0.9, -0.4, 0.3, 0.6, -0.2], "g": [1, 1, 2, 2, 3, 3]})
    data["x"] = [1e300, 2, 3, 4, 5, 7]
    try:
        fit = mx.mixmeta("y", S=np.full(6, 0.1), data=data, random="~ x | g", method=method)
    except InputError:
        return
    assert fit.status is mx.Status.NOT_FINITE
