"""Covariance structures: θ → Ψ → θ, bounds, names, choice by name and by the user."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mixmeta_jax as mx
from mixmeta_jax.covariance.catalogue import (
    NEEDS_MATRIX,
    NEEDS_TIMES,
    STRUCTURES,
    resolve_structures,
)

# Written out: sides of the constants themselves would move with them.
NULL_VARIANCE, SINGULAR, UNCORRELATED = 1e-9, 1e-7, 1e-9

TIMES = (0.0, 1.0, 2.5)
MATRIX = 0.3 + 0.7 * np.eye(3)


def instance(name):
    if name in NEEDS_MATRIX:
        return STRUCTURES[name](MATRIX)
    return STRUCTURES[name](times=TIMES) if name in NEEDS_TIMES else STRUCTURES[name]()


def psi(structure, theta, d=3):
    return structure.psi(np.asarray(theta), d)


def at_bound(structure, Psi, scale=1.0):
    (found,) = structure.at_bound(np.asarray(Psi)[:, :, None], np.full((len(Psi), 1), scale))
    return bool(found)


COUNTS = {
    "unstr": 6, "diag": 3, "id": 1, "cs": 2, "hcs": 4, "ar1": 2, "har1": 4, "car1": 2, "hcar1": 4,
    "toep": 3, "htoep": 5, "prop": 1, "cor": 3, "fixed": 0,
}  # fmt: skip


@pytest.mark.parametrize("name", STRUCTURES)
@given(seed=st.integers(0, 10_000))
def test_every_theta_gives_a_matrix_of_the_structure_and_back(name, seed):
    structure = instance(name)
    assert structure.n_parameters(3) == COUNTS[name]
    theta = np.random.default_rng(seed).normal(size=COUNTS[name]) * 2
    Psi = psi(structure, theta)
    assert np.linalg.eigvalsh(Psi)[0] >= -1e-12 * np.abs(Psi).max()
    np.testing.assert_allclose(psi(structure, structure.theta(Psi)), Psi, atol=1e-7)


@pytest.mark.parametrize("name", [name for name in STRUCTURES if name != "fixed"])
def test_starts_are_valid_and_inside(name):
    structure = instance(name)
    starts = structure.starts(np.array([1.0, 2.0, 0.5]))
    assert starts
    for start in starts:
        Psi = psi(structure, start)
        assert not at_bound(structure, Psi)


PATTERNS = {
    "diag": lambda P: P - np.diag(np.diag(P)),
    "id": lambda P: P - P[0, 0] * np.eye(3),
    "cs": lambda P: [P[0, 0] - P[1, 1], P[0, 1] - P[0, 2], P[0, 1] - P[1, 2]],
    "ar1": lambda P: [P[0, 0] - P[2, 2], P[0, 1] - P[1, 2], P[0, 1] ** 2 / P[0, 0] - P[0, 2]],
    "car1": lambda P: np.log(P[0, 2] / P[0, 0]) - 2.5 * np.log(P[0, 1] / P[0, 0]),
    "prop": lambda P: P / P[0, 0] - MATRIX / MATRIX[0, 0],
    "fixed": lambda P: P - MATRIX,
}


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns(name):
    structure = instance(name)
    theta = np.array([0.9, 0.7, 0.4, 0.3, 0.2, 0.1])[: COUNTS[name]]
    np.testing.assert_allclose(PATTERNS[name](psi(structure, theta)), 0, atol=1e-12)


def scaled(Psi):
    sd = np.sqrt(np.diag(Psi))
    return Psi / np.outer(sd, sd)


def test_correlations_reach_both_of_their_bounds():
    for name, low in (("hcs", -0.5), ("har1", -1.0)):
        structure = instance(name)
        for angle, bound in ((-np.pi / 2, low), (np.pi / 2, 1.0)):
            Psi = psi(structure, [1.0, 0.8, 1.2, angle])
            assert scaled(Psi)[0, 1] == pytest.approx(bound)
            assert at_bound(structure, Psi)
    assert scaled(psi(instance("cs"), [1.0, 0.0]))[0, 1] == pytest.approx(-0.5)
    assert scaled(psi(instance("cs"), [0.0, 1.0]))[0, 1] == pytest.approx(1.0)
    zero = psi(instance("car1"), [1.0, 0.0])
    np.testing.assert_allclose(zero, np.eye(3), atol=1e-12)
    assert at_bound(instance("car1"), zero)


def test_null_variances_are_bounds():
    assert at_bound(instance("diag"), np.diag([1.0, 0.0, 1.0]))
    assert at_bound(instance("id"), np.zeros((3, 3)))
    assert not at_bound(instance("fixed"), np.zeros((3, 3)))


@pytest.mark.parametrize(
    "name", ["unstr", "diag", "id", "cs", "hcs", "har1", "htoep", "prop", "cor"]
)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_where_a_variance_counts_as_null(name, scale):
    """On each side of `NULL_VARIANCE`, in units of the scale."""
    for size, bound in ((1.1, False), (0.9, True)):
        small = size * NULL_VARIANCE * scale
        # Of one structure all variances are null or none is; of the others one of them.
        variances = np.full(3, small) if name in ("id", "cs", "prop") else [scale, small, scale]
        Psi = MATRIX * np.sqrt(np.outer(variances, variances))
        Psi = Psi * np.eye(3) if name in ("diag", "id") else Psi
        assert at_bound(instance(name), Psi, scale) is bound, size


@pytest.mark.parametrize("name", ["unstr", "cs", "hcs", "ar1", "har1", "toep", "htoep"])
def test_where_a_correlation_counts_as_one(name):
    """On each side of `SINGULAR`: the least eigenvalue of equal correlations r is 1 − r."""
    for left, bound in ((1.1, False), (0.9, True)):
        r = 1 - left * SINGULAR
        Psi = 4.0 * (r * np.ones((3, 3)) + (1 - r) * np.eye(3))
        assert at_bound(instance(name), Psi) is bound, left


@pytest.mark.parametrize("name", ["car1", "hcar1"])
def test_where_a_correlation_in_time_counts_as_none(name):
    for size, bound in ((2.0, False), (0.5, True)):
        Psi = 4.0 * (np.eye(3) + size * UNCORRELATED * (1 - np.eye(3)))
        assert at_bound(instance(name), Psi, 4.0) is bound, size


def test_each_data_set_is_at_its_own_bound():
    Psi = np.stack([np.eye(3), np.diag([1.0, 0.0, 1.0]), np.ones((3, 3))], 2)
    assert instance("unstr").at_bound(Psi, np.ones((3, 3))).tolist() == [False, True, True]


def test_reordered_unstructured_is_the_same_matrix():
    Psi = np.array([[2.0, 0.5, 0.1], [0.5, 1.0, -0.3], [0.1, -0.3, 3.0]])
    turned = mx.Unstructured().ordered(np.array([2, 0, 1]))
    np.testing.assert_allclose(psi(turned, turned.theta(Psi)), Psi, atol=1e-12)
    assert turned.theta(Psi)[0] == pytest.approx(np.sqrt(3.0))


class Toeplitz(mx.Structure):
    """Two bands: a user's own structure."""

    name = "two bands"

    def n_parameters(self, d):
        return 2

    def psi(self, theta, d):
        band = jnp.eye(d, k=1) + jnp.eye(d, k=-1)
        return theta[0] ** 2 * jnp.eye(d) + 0.5 * jnp.tanh(theta[1]) * theta[0] ** 2 * band


def test_a_structure_of_the_users_own():
    data = mx.load_dataset("smoking")
    S = ["SBB", "SBC", "SBD", "SCC", "SCD", "SDD"]
    fit = mx.mixmeta("yB + yC + yD", S=S, data=data, bscov=Toeplitz())
    assert fit.converged
    assert fit.df.random == 2
    assert "two bands" in str(fit.summary())
    Psi = fit.Psi.to_numpy()
    assert Psi[0, 2] == 0 and Psi[0, 1] == pytest.approx(Psi[1, 2])
    # It lies between its special case and the unstructured model.
    inner = mx.mixmeta("yB + yC + yD", S=S, data=data, bscov="id")
    outer = mx.mixmeta("yB + yC + yD", S=S, data=data)
    assert inner.loglik <= fit.loglik <= outer.loglik


LEVELS, DIMS = ["district", "study"], [1, 3]


@pytest.mark.parametrize(
    ("bscov", "Psi_fix", "sentence"),
    [
        ("nope", None, "bscov of level 'district' must be one of 'unstr'"),
        (["id"], None, "1 structures for 2 level"),
        ({"city": "id"}, None, "bscov names the level 'city', but the levels are 'district'"),
        ({"district": "cs"}, None, "'cs' needs at least 2 random effects.*'district' has 1.*'id'"),
        ({"study": "prop"}, None, "'prop' of level 'study' needs Psi_fix"),
        ({"study": "prop"}, np.eye(2), "Psi_fix for 'prop' is 2 × 2, but level 'study' has 3"),
        ({"study": "prop"}, -np.eye(3), "not positive semidefinite: its smallest eigenvalue is -1"),
        ({"study": "prop"}, np.ones((2, 3)), "must be a square matrix"),
        ({"study": "cor"}, np.zeros((3, 3)), "zero variance"),
        ({"study": "prop"}, np.zeros((3, 3)), "no multiple of it is a variance"),
        ({"study": "prop"}, "a", "must be made of numbers"),
        ({"study": mx.CompoundSymmetry}, None, r"give an instance, CompoundSymmetry\(\)"),
        ("unstr", np.eye(3), "no level has a structure that uses it"),
        ("prop", np.eye(3), "one matrix for the levels 'district', 'study'"),
        ({"study": "prop"}, {"district": np.eye(3)}, "Psi_fix names the level 'district'"),
        ({"study": "car1"}, None, "needs times.*ContinuousAR1"),
        ({"study": mx.ContinuousAR1(times=[1, 2])}, None, "2 times, but level 'study' has 3"),
    ],
)
def test_bad_choices(bscov, Psi_fix, sentence):
    with pytest.raises(mx.InputError, match=sentence):
        resolve_structures(bscov, Psi_fix, LEVELS, DIMS)


def test_repeated_times():
    with pytest.raises(mx.InputError, match="must be different"):
        mx.ContinuousAR1(times=[1.0, 1.0])


def test_choices_by_level():
    chosen = resolve_structures({"study": "cs"}, None, LEVELS, DIMS)
    assert [s.name for s in chosen] == ["unstr", "cs"]
    chosen = resolve_structures(["id", mx.Diagonal()], None, LEVELS, DIMS)
    assert [s.name for s in chosen] == ["id", "diag"]


def test_labels_of_a_given_matrix_say_which_effect_is_which():
    data = mx.load_dataset("berkey98")
    S = ["var_PD", "cov_PD_AL", "var_AL"]
    Psi = pd.DataFrame([[0.01, 0.005], [0.005, 0.03]], ["PD", "AL"], ["PD", "AL"])
    fit = mx.mixmeta("PD + AL", S=S, data=data, bscov="fixed", Psi_fix=Psi)
    turned = fit.update(Psi_fix=Psi.iloc[::-1, ::-1])
    assert turned.loglik == fit.loglik
    assert fit.update(Psi_fix=Psi.to_numpy()).loglik == fit.loglik
    with pytest.raises(mx.InputError, match="labels 'a', 'b', but the random effects are 'PD'"):
        fit.update(Psi_fix=Psi.set_axis(["a", "b"]))
    started = mx.mixmeta("PD + AL", S=S, data=data, control={"start": Psi.iloc[::-1, ::-1]})
    assert started.converged


@pytest.mark.parametrize(
    ("start", "sentence"), [("a", "finite 1 × 1"), (-1.0, "positive semidefinite")]
)
def test_starts_that_are_no_covariance(start, sentence):
    data = mx.load_dataset("bcg")
    with pytest.raises(mx.InputError, match=sentence):
        mx.mixmeta("logor", S="logorvar", data=data, control={"start": start})


@pytest.mark.parametrize(
    ("n", "psi", "sentence"),
    [
        (1, lambda theta, d: theta[0] ** 2, r"returns a Ψ of shape \(\) for 1 random effects"),
        (1, lambda theta, d: theta, r"returns a Ψ of shape \(1,\) for 1 random effects"),
        (1, lambda theta, d: theta[5] * theta.nonsense, "fails for 1 random effects with"),
        (0.5, lambda theta, d: theta[:, None], "number of parameters must be a whole number"),
    ],
)
def test_a_structure_of_ones_own_makes_a_matrix_of_its_effects(n, psi, sentence):
    class Own(mx.Structure):
        name = "own"

        def n_parameters(self, d):
            return n

        def psi(self, theta, d):
            return psi(theta, d)

    data = pd.DataFrame({"y": [0.1, 0.9, -0.4, 0.3], "v": [0.1, 0.2, 0.1, 0.3]})
    with pytest.raises(mx.InputError, match=f"'own'.*'unit'.*{sentence}"):
        mx.mixmeta("y", S="v", data=data, bscov=Own())
