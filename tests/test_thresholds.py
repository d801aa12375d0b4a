"""A case on each side of thresholds, all with numbers written out: they pin the thresholds too.

Those that need a scene of their own have theirs beside what they decide: `tests/table`,
`tests/covariance/test_structures.py`, `tests/covariance/test_given_matrices.py`, and
`tests/estimation/` (verdict, search, start, implicit).
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from mixmeta_jax.design.design import orthonormal_basis
from mixmeta_jax.estimation.moment_data import MomentData, Unidentified, prepare
from mixmeta_jax.estimation.multivariate import _unleveraged, gls, jackson
from mixmeta_jax.estimation.univariate import weighted_residuals
from mixmeta_jax.inference.wald import _pivoted_root
from mixmeta_jax.table.collinearity import dependence, doubtful
from mixmeta_jax.table.identified import lacking, obvious
from mixmeta_jax.table.positive_definite import null_vectors
from mixmeta_jax.table.rules import _elements

EACH_SIDE = pytest.mark.parametrize("part", [0.5, 2.0])


@EACH_SIDE
def test_predictors_that_are_clearly_apart_are_asked_no_further(part):
    c = 1 - part * 1e-12  # the least eigenvalue of two of length one is 1 − c
    X = np.array([[1.0, c], [0.0, np.sqrt((1 - c) * (1 + c))]])
    assert doubtful(X, np.ones((1, 2, 1), bool)).item() is (part < 1)


@EACH_SIDE
def test_a_sentence_on_collinearity_names_what_takes_part(part):
    X = np.eye(4)[:, [0, 1, 0]]
    X[:, 2] += part * 1e-6 * X[:, 1]
    column, others = dependence(X)
    assert (1 in (column, *others)) is (part > 1)


@EACH_SIDE
def test_what_the_fixed_effects_leave_of_a_variance(part):
    z = np.array([[1.0], [(part * 1e-10) ** 0.25]])
    X, seen, groups = np.array([[1.0], [0.0]]), np.ones((2, 1), bool), np.arange(2)[:, None]
    (directions,) = lacking(X, [z], groups, seen, [np.ones((1, 1, 1))])
    assert len(directions) == (part < 1)


@EACH_SIDE
def test_the_span_of_nearly_equal_predictors(part):
    X = np.array([[1.0, 1.0], [0.0, 2 * part * 1e-10]])  # singular values 1 to part · 1e-10
    z, seen, groups = np.ones((2, 1)), np.ones((2, 1), bool), np.arange(2)[:, None]
    (directions,) = lacking(X, [z], groups, seen, [np.ones((1, 1, 1))])
    assert len(directions) == (part > 1)


@EACH_SIDE
def test_directions_without_error(part):
    S = np.array([[1.0, 1 - part * 1e-10], [1 - part * 1e-10, 1.0]])
    assert null_vectors(S, np.ones(2, bool)).shape == (2, int(part < 1))


@EACH_SIDE
def test_which_predictors_are_made_orthonormal(part):
    basis = orthonormal_basis(np.array([[1.0, 1.0], [0.0, part * 1e-12]]))
    assert bool(basis[0, 1]) is (part > 1)


@EACH_SIDE
def test_a_correlation_beyond_one_by_rounding(part):
    if part < 1:
        mx.inputcov([[1.0, 1.0]], 1 + part * 1e-12)
    else:
        with pytest.raises(mx.InputError, match="cor must lie between"):
            mx.inputcov([[1.0, 1.0]], 1 + part * 1e-12)


def moment_data(x, w=None):
    """One outcome, variances 1/w."""
    x = np.asarray(x, float)
    n = len(x)
    S = np.ones((1, n, 1, 1)) if w is None else 1 / np.asarray(w).reshape(1, n, 1, 1)
    y, seen = np.zeros((1, n, 1)), np.ones((1, n, 1), bool)
    return MomentData(y, S, x.reshape(1, n, -1), seen, np.zeros(1, int))


def refuses(function):
    try:
        function()
    except Unidentified:
        return True
    return False


@EACH_SIDE
def test_predictors_of_the_moments(part):
    X = np.array([[1.0, 1.0], [0.0, part * 1e-11], [0.0, 0.0]])
    y, S = np.zeros((1, 3, 1)), np.ones((1, 3, 1, 1))
    assert refuses(lambda: prepare(y, X[None], S, np.zeros(1, int))) is (part < 1)
    assert refuses(lambda: weighted_residuals(moment_data(X), np.ones((1, 3)))) is (part < 1)


@EACH_SIDE
def test_the_condition_of_the_coefficients_under_moments(part):
    c = 1 - part * 2e-13  # of [[1, c], [c, 1]] it is 2/(1 − c)
    X = [[1.0, c], [0.0, np.sqrt((1 - c) * (1 + c))]]
    assert refuses(lambda: gls(moment_data(X), np.zeros((1, 1, 1)))) is (part < 1)


@EACH_SIDE
def test_what_the_coefficients_leave_of_a_moment(part):
    # Weights 1 and w of one mean leave 2w of 1 + w.
    data = moment_data(np.ones((2, 1)), [1.0, part * 0.5e-10])
    assert refuses(lambda: jackson(data)) is (part < 1)


@EACH_SIDE
def test_the_number_of_normals_that_vary_by_themselves(part):
    r = np.sqrt(1 - part * 1e-10)  # the first leaves 1 − r² of the second's variance
    assert _pivoted_root(np.array([[1.0, r], [r, 1.0]]))[1] == (1 if part < 1 else 2)


@pytest.fixture(scope="module")
def nested():
    data = mx.load_dataset("bcg")
    smaller = mx.mixmeta("logor ~ 1", "logorvar", data, method="ml")
    return smaller, smaller.update(formula="logor ~ ablat")


@EACH_SIDE
def test_by_how_much_the_wider_fit_may_fall_short(nested, part):
    smaller, larger = nested
    low = replace(larger.estimate, loglik=smaller.loglik - part * 1e-6)
    larger = replace(larger, estimate=low)
    if part < 1:
        assert mx.lr_test(smaller, larger).pvalue == 1
    else:
        with pytest.raises(mx.InputError, match="lower log-likelihood"):
            mx.lr_test(smaller, larger)


@EACH_SIDE
def test_fixed_effects_that_are_nested_up_to_rounding(nested, part):
    smaller, larger = nested
    X = smaller.design.X + part * 2e-8 * np.where(np.arange(13) % 2, 1.0, -1.0)[:, None]
    moved = replace(smaller, design=replace(smaller.design, X=X))
    if part < 1:
        mx.lr_test(moved, larger)
    else:
        with pytest.raises(mx.InputError, match="not among those"):
            mx.lr_test(moved, larger)


@EACH_SIDE
def test_a_singular_block_that_the_random_effects_make_up_for(part):
    # Of v = (1, −1)/√2 in the null space of S, Z leaves δ/2 of |Z|: its square counts.
    data = pd.DataFrame({"g": np.repeat(np.arange(6), 2), "z": 1.0, "y": np.sin(np.arange(12))})
    data.loc[1, "z"] -= 2 * np.sqrt(part * 1e-10)
    S = {g: np.eye(2) if g else np.ones((2, 2)) for g in range(6)}
    refused = False
    try:
        mx.mixmeta("y ~ 1", S, data, random="~ 0 + z | g", control={"max_iter": 1})
    except mx.InputError as error:
        refused = "do not make up for it" in str(error)
    assert refused is (part < 1)


@EACH_SIDE
def test_which_elements_a_sentence_names(part):
    named = _elements(np.diag([1.0, part * 1e-6]), ["a", "b"])
    assert ("'b'" in named) is (part > 1)


@EACH_SIDE
def test_a_covariance_that_is_symmetric_up_to_rounding(part):
    V = np.eye(2) + np.array([[0.0, part * 1e-8], [0.0, 0.0]])
    estimates = [(np.full(2, i), V) for i in range(4)]
    if part < 1:
        mx.pool(estimates)
    else:
        with pytest.raises(mx.InputError, match="not symmetric"):
            mx.pool(estimates)


@EACH_SIDE
def test_a_unit_that_alone_determines_a_coefficient(part):
    data = moment_data([[1.0], [np.sqrt(part * 1e-10)]])  # the first's leverage is 1 − part · 1e-10
    vcov = 1 / (data.X**2).sum(1, keepdims=True)
    _, used = _unleveraged(data, np.zeros((1, 1, 1)), vcov, np.zeros((1, 2, 1)))
    assert used[0].tolist() == [part > 1, True]


@pytest.mark.parametrize(("count", "clear"), [(2, False), (3, True)])
def test_how_many_rows_of_each_pair_of_outcomes_leave_no_doubt(count, clear):
    """More than twice the predictors, where no row has all outcomes."""
    seen = np.repeat(~np.eye(3, dtype=bool), count, axis=0)[None]
    groups = np.arange(3 * count)[:, None]
    assert obvious(seen, [np.ones((3 * count, 1))], groups, 1).tolist() == [clear]


@pytest.mark.parametrize(("count", "clear"), [(1, False), (2, True)])
def test_how_many_rows_of_all_outcomes_leave_no_doubt(count, clear):
    seen, groups = np.ones((1, count, 2), bool), np.arange(count)[:, None]
    assert obvious(seen, [np.ones((count, 1))], groups, 1).tolist() == [clear]
