"""Estimation: invariances, several maxima, bounds, verdicts, and how often XLA compiles."""

import itertools
from dataclasses import replace

import jax
import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from mixmeta_jax import make_design
from mixmeta_jax.control import Control
from mixmeta_jax.covariance.catalogue import resolve_structures
from mixmeta_jax.design.design import orthonormal_basis, spanning_blocks
from mixmeta_jax.design.layout import build_layout
from mixmeta_jax.design.sharding import placed
from mixmeta_jax.design.tensors import arrange
from mixmeta_jax.errors import InputError
from mixmeta_jax.estimation.estimator import _reordered, fit_design
from mixmeta_jax.estimation.executors import AtOnce, Told
from mixmeta_jax.estimation.newton import Problem
from mixmeta_jax.estimation.programs import PROGRAMS, Programs
from mixmeta_jax.estimation.restarts import (
    may_restart,
    restartable,
    restarts,
    worth_restarting,
)
from mixmeta_jax.estimation.search import search
from mixmeta_jax.estimation.start import (
    SEVERAL_SIZE,
    follows_all,
    natural_units,
    starting_parameters,
    starting_variances,
)
from mixmeta_jax.status import Status
from tests.dense_likelihood import dense_log_likelihood
from tests.designs import random_design
from tests.estimation.two_maxima import two_maxima

SAME = 1e-8
"""Relative agreement of estimates that take different paths to one maximum: Newton's method ends
with a step beyond a gradient of 1e-6, whose error is of the order of its square."""

DEFAULT = Control()

OWN_STARTS = Control(n_starts=100)
"""All of the starts that the structures suggest, and no others: a number given asks for no more."""

COMPILED = Control(backend="jax")


def assert_same_fit(ours, theirs):
    assert ours.status == theirs.status
    assert ours.loglik == pytest.approx(theirs.loglik, abs=1e-9)
    np.testing.assert_allclose(ours.beta, theirs.beta, rtol=SAME, atol=SAME)
    np.testing.assert_allclose(ours.vcov, theirs.vcov, rtol=SAME, atol=SAME)
    for a, b in zip(ours.Psi, theirs.Psi, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=SAME * np.abs(b).max())


def structured(design, name, Psi_fix=None):
    names = [f"level{level}" for level in range(len(design.dims))]
    return replace(design, structures=resolve_structures(name, Psi_fix, names, design.dims))


def with_effects(seed=1, **kind):
    """A design whose outcomes hold random effects at every level, well inside the bounds."""
    design = random_design(seed, **kind)
    rng = np.random.default_rng(seed + 100)
    y = design.y.copy()
    for level, Z in enumerate(design.Z):
        groups = design.groups[:, level]
        b = rng.normal(size=(groups.max() + 1, Z.shape[1], design.k)) + rng.normal(
            size=(groups.max() + 1, 1, 1)
        )
        y += np.einsum("nq,nqk->nk", Z, b[groups])
    return replace(design, y=y)


@pytest.fixture(scope="module")
def two_levels():
    return with_effects(k=2, q=(1, 1), n=40)


@pytest.fixture(scope="module")
def two_levels_fit(two_levels):
    return fit_design(two_levels, "reml", DEFAULT)


def permuted(design, order):
    codes = [np.unique(c, return_inverse=True)[1] for c in design.groups[order].T]
    return replace(
        design,
        y=design.y[order],
        X=design.X[order],
        S=design.S[order],
        Z=tuple(Z[order] for Z in design.Z),
        mask=design.mask[order],
        groups=np.stack(codes, axis=1),
        layout=build_layout(design.n, design.k, codes, design.dims),
    )


def test_row_order_does_not_matter(two_levels, two_levels_fit):
    order = np.random.default_rng(0).permutation(two_levels.n)
    assert_same_fit(fit_design(permuted(two_levels, order), "reml", DEFAULT), two_levels_fit)


def test_group_numbers_do_not_matter(two_levels, two_levels_fit):
    rng = np.random.default_rng(1)
    codes = [rng.permutation(c.max() + 1)[c] for c in two_levels.groups.T]
    layout = build_layout(two_levels.n, two_levels.k, codes, two_levels.dims)
    renumbered = replace(two_levels, groups=np.stack(codes, axis=1), layout=layout)
    assert_same_fit(fit_design(renumbered, "reml", DEFAULT), two_levels_fit)


@pytest.mark.parametrize("scale", [1e-6, 1e5])
def test_the_scale_of_the_outcomes_does_not_matter(two_levels, two_levels_fit, scale):
    scaled = replace(two_levels, y=two_levels.y * scale, S=two_levels.S * scale**2)
    fit = fit_design(scaled, "reml", DEFAULT)
    assert fit.status == two_levels_fit.status
    np.testing.assert_allclose(fit.beta / scale, two_levels_fit.beta, rtol=SAME, atol=SAME)
    for ours, theirs in zip(fit.Psi, two_levels_fit.Psi, strict=True):
        np.testing.assert_allclose(ours / scale**2, theirs, rtol=0, atol=SAME * theirs.max())


def test_the_scale_of_the_predictors_does_not_matter(two_levels, two_levels_fit):
    far = replace(two_levels, X=two_levels.X * [1, 1e-4] + [0, 1990.0])
    far = replace(far, basis=orthonormal_basis(far.X))
    fit = fit_design(far, "ml", DEFAULT)
    near = fit_design(two_levels, "ml", DEFAULT)
    assert fit.loglik == pytest.approx(near.loglik, abs=1e-8)
    np.testing.assert_allclose(fit.beta[2:] * 1e-4, near.beta[2:], rtol=1e-6)


def test_one_group_per_row_nested_in_itself_is_the_plain_model():
    plain = with_effects(3, k=2, q=(1,), n=24, codes=[np.arange(24)])
    codes = [np.arange(24), np.arange(24)]
    nested = replace(
        plain,
        Z=(plain.Z[0], plain.Z[0]),
        groups=np.stack(codes, axis=1),
        layout=build_layout(24, 2, codes, [2, 2]),
    )
    null = resolve_structures({"a": "fixed"}, {"a": np.zeros((2, 2))}, ["a", "b"], [2, 2])
    fit = fit_design(replace(nested, structures=null), "reml", DEFAULT)
    alone = fit_design(plain, "reml", DEFAULT)
    assert fit.loglik == pytest.approx(alone.loglik, abs=1e-10)
    np.testing.assert_allclose(fit.Psi[1], alone.Psi[0], rtol=1e-7)
    np.testing.assert_allclose(fit.vcov, alone.vcov, rtol=1e-7)


def test_long_format_is_wide_format():
    """k outcomes per unit, or units of one outcome with indicators and blocks of S: one model."""
    wide = with_effects(5, k=2, q=(1,), n=24, codes=[np.arange(24)], p=2)
    unit, outcome = np.nonzero(wide.mask)
    indicators = np.eye(2)[outcome]
    X = (wide.X[unit][:, :, None] * indicators[:, None]).reshape(len(unit), -1)
    codes = [np.unique(unit, return_inverse=True)[1]]
    rows = [np.flatnonzero(unit == u) for u in range(24)]
    matrices = [wide.S[u][np.ix_(outcome[r], outcome[r])] for u, r in enumerate(rows)]
    layout = build_layout(len(unit), 1, codes, [2], rows)
    long = replace(
        wide,
        y=wide.y[unit, outcome][:, None],
        X=X,
        S=spanning_blocks(layout, tuple(zip(rows, matrices, strict=True)), len(unit), 1),
        Z=(indicators,),
        mask=np.ones((len(unit), 1), bool),
        basis=orthonormal_basis(X),
        groups=np.stack(codes, axis=1),
        layout=layout,
        complete=True,
    )
    assert_same_fit(fit_design(long, "reml", DEFAULT), fit_design(wide, "reml", DEFAULT))


def test_cs_with_correlation_zero_is_id():
    design = with_effects(6, k=3, q=(1,), n=20, codes=[np.arange(20)])
    fit = fit_design(structured(design, "id"), "reml", DEFAULT)
    cs = structured(design, "cs")
    found = fit_design(cs, "reml", DEFAULT)
    assert found.loglik >= fit.loglik - 1e-9
    held = Control(start=fit.Psi[0], max_iter=1)
    at_id = fit_design(cs, "reml", held, ["level0"])
    assert at_id.loglik == pytest.approx(fit.loglik, abs=1e-10)


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        *(("id", "diag"), ("diag", "unstr"), ("cs", "hcs"), ("ar1", "har1")),
        *(("ar1", "toep"), ("toep", "htoep"), ("htoep", "unstr")),
    ],
)
def test_a_wider_structure_fits_no_worse(narrow, wide):
    design = with_effects(8, k=3, q=(1,), n=18, codes=[np.arange(18)])
    lower = fit_design(structured(design, narrow), "ml", DEFAULT)
    upper = fit_design(structured(design, wide), "ml", DEFAULT)
    assert lower.status.converged and upper.status.converged
    assert upper.loglik >= lower.loglik - 1e-9


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", ["unstr", "hcs", "har1"])
def test_no_random_start_ends_higher(name, seed):
    design = structured(random_design(seed, k=3, q=(1,), n=14, codes=[np.arange(14)]), name)
    fit = fit_design(design, "reml", DEFAULT)
    assert fit.status.converged
    rng = np.random.default_rng(seed)
    for _ in range(5):
        root = rng.normal(size=(3, 3)) * rng.choice([0.1, 1.0, 3.0])
        start = Control(start=root @ root.T)
        other = fit_design(design, "reml", start, ["level0"])
        assert other.loglik <= fit.loglik + 1e-7


def test_restarts_find_the_higher_of_two_maxima_at_bounds():
    """A design of ``benchmarks/random_designs.py`` whose own starts all lead to the lower one."""
    data = two_maxima()
    S = np.empty((len(data), 3, 3))
    for i, j in itertools.product(range(3), repeat=2):
        S[:, i, j] = data[f"S{max(i, j) + 1}{min(i, j) + 1}"]
    y, X = data[["y1", "y2", "y3"]].to_numpy(), np.column_stack([np.ones(len(data)), data.x])
    design = make_design(y, X, S)
    before = PROGRAMS.compiled
    found = fit_design(design, "reml", COMPILED)
    assert PROGRAMS.compiled <= before + 1, "restarts are no other program"
    assert_same_fit(fit_design(design, "reml", DEFAULT), found)
    without = fit_design(design, "reml", OWN_STARTS)
    assert found.status is without.status is Status.BOUNDARY
    assert found.loglik == pytest.approx(without.loglik + 0.3126, abs=0.01)
    rng = np.random.default_rng(0)
    for _ in range(10):
        root = rng.normal(size=(3, 3)) * np.nanstd(y, axis=0)[:, None]
        other = fit_design(design, "reml", Control(start=root @ root.T), ["unit"])
        assert other.loglik <= found.loglik + 1e-7


@pytest.mark.parametrize("seed", [122, 135])
def test_restarts_find_which_variances_a_given_correlation_leaves(seed):
    """Given correlations tie four variances: with those that agree the others may vanish."""
    rng = np.random.default_rng(1000 + seed)
    root = rng.normal(size=(4, 6))
    codes = [np.arange(20)]
    design = random_design(
        seed, q=(2,), missing=0.1, p=1, bscov="cor", Psi_fix=root @ root.T, codes=codes
    )
    sd = 10 ** rng.uniform(-1, 0.3, (2, 2))
    effects = rng.normal(size=(20, 2, 2)) * sd
    design = replace(design, y=design.y + np.einsum("nq,nqk->nk", design.Z[0], effects))
    found = fit_design(design, "reml", DEFAULT)
    without = fit_design(design, "reml", OWN_STARTS)
    assert (without.status, found.status) == (Status.CONVERGED, Status.BOUNDARY)
    assert found.loglik > without.loglik + 1
    with jax.enable_x64(True):
        ends = [dense_log_likelihood(fit.Psi, design, "reml") for fit in (found, without)]
    assert float(ends[0] - ends[1]) == pytest.approx(found.loglik - without.loglik, rel=1e-8)


def test_restarts_find_a_maximum_at_a_bound_from_one_inside():
    """One correlation ties four variances: where one vanishes the others may agree better."""
    codes = [np.repeat(np.arange(15), 2), np.arange(30)]
    structures = ("id", "har1")
    design = random_design(4, k=2, q=(1, 2), n=30, missing=0, bscov=structures, codes=codes, p=1)
    rng = np.random.default_rng(104)
    sd = 10 ** rng.uniform(-1, 0.3, (2, 2))
    outer, inner = rng.normal(size=(15, 2)), rng.normal(size=(30, 2, 2)) * sd
    y = design.y + outer[codes[0]] + np.einsum("nq,nqk->nk", design.Z[1], inner)
    design = replace(design, y=y)
    found = fit_design(design, "ml", DEFAULT)
    without = fit_design(design, "ml", OWN_STARTS)
    assert without.status is Status.CONVERGED
    assert found.status is Status.BOUNDARY
    assert found.loglik > without.loglik + 0.1
    # The likelihood itself, by dense algebra, at the two ends.
    with jax.enable_x64(True):
        ends = [dense_log_likelihood(fit.Psi, design, "ml") for fit in (found, without)]
    np.testing.assert_allclose(ends, [found.loglik, without.loglik], rtol=1e-10)


def test_restarts_grow_with_the_parameters():
    """One of 14 parameters had its highest maximum from one restart in twenty-five."""

    def counted(*dims):
        names = [f"level {d}" for d in dims]
        structures = resolve_structures("unstr", None, names, dims)
        scales = [np.ones((d, 1)) for d in dims]
        return len(restarts(structures, scales, 4))

    assert counted(3) == 24
    assert counted(4, 2) == 52


def test_restarts_of_levels_without_parameters():
    structures = resolve_structures({"a": "hcs", "b": "fixed"}, np.eye(2), ["a", "b"], (3, 2))
    assert restarts(structures, [np.ones((3, 1)), np.ones((2, 1))], 2).shape == (24, 4, 1)


def test_a_restart_as_high_ends_a_fit_whose_gradient_has_not_vanished():
    """Rounding had kept the gradient of an ill-conditioned fit above the tolerance."""
    design = random_design(3, k=2, q=(1,), n=20, codes=[np.arange(20)])
    scales = tuple(starting_variances(design))
    starts = starting_parameters(design.structures, scales)
    units, tensors = natural_units(starts), arrange(design)
    more = restarts(design.structures, scales, len(starts))[:, :, 0].T[None]

    def searched(raised=0.0, **changes):
        """The end, and how often paths have climbed, where the first climb is said to end so."""
        climbs = []

        def climb(theta, max_iter, known):
            problem = Problem(units, scales, None, int(max_iter), 1e-6, 0)
            ends = AtOnce(tensors).ascend(theta, problem, restricted=True)
            climbs.append(theta.shape[1])
            if len(climbs) > 1:
                return ends
            path = replace(ends.path, **{n: v + 0 * ends.loglik for n, v in changes.items()})
            return replace(ends, path=path, loglik=ends.loglik + raised)

        every = lambda status, Psi: status == status  # noqa: E731
        P = design.p * design.k
        with np.errstate(all="ignore"):
            found = search(climb, starts[:, :, 0].T, lambda: more, every, 100, 1e-6, design.dims, P)
        return found, len(climbs)

    best, climbs = searched()
    assert climbs == 2, "the restarts, and on from none of them"
    assert Status(int(best.status[0])) is Status.CONVERGED
    held, climbs = searched(norm=1e-5, raised=1e-4)
    assert climbs == 2, "no end as high"
    assert held.loglik == pytest.approx(best.loglik + 1e-4, abs=1e-9)
    for changes in ({"norm": 1e-5}, {"raised": -1e-4}):
        found, climbs = searched(**changes)
        assert climbs == 3
        assert found.norm[0] <= 1e-6
        np.testing.assert_allclose(found.Psi[0], best.Psi[0], rtol=1e-6)


def test_ends_next_to_a_singular_matrix_are_restarted():
    """An unstructured design of five outcomes was lower inside than at such a bound."""
    three, two = (resolve_structures("unstr", None, ["level0"], [d]) for d in (3, 2))
    inside, bound = (np.full(2, int(s)) for s in (Status.CONVERGED, Status.BOUNDARY))
    # Of equal correlations r the least eigenvalue is 1 − r: a case on each side.
    least = 0.05 * np.array([1.01, 0.99])
    Psi = np.ones((3, 3, 1)) * (1 - least) + np.eye(3)[:, :, None] * least
    assert worth_restarting(three, inside, [Psi]).tolist() == [False, True]
    assert worth_restarting(three, bound, [Psi]).all()
    assert not worth_restarting(two, inside, [Psi[:2, :2]]).any()


def test_which_models_are_restarted():
    """Where some of several variances may vanish, unless the own starts have all such choices."""

    def may(*names, d=3):
        dims = [d] * len(names)
        levels = [f"level{number}" for number in range(len(names))]
        using = [lev for lev, name in zip(levels, names, strict=True) if name in ("prop", "cor")]
        given = dict.fromkeys(using, np.eye(d))
        return may_restart(resolve_structures(list(names), given, levels, dims), dims)

    for name in ("unstr", "diag", "hcs", "ar1", "har1", "cor"):
        assert may(name) and may("id", name)
    for name in ("id", "cs", "prop"):
        assert not may(name) and not may("cs", name)
        assert may("id", "cs", name), "of three levels two may vanish together"
    assert not may("unstr", "unstr", d=1)
    # Parameters: 28 of seven effects, 36 of eight.
    assert may("unstr", d=7) and not may("unstr", d=8)


def test_restarts_are_for_small_data_and_own_starts():
    y, S = np.zeros((SEVERAL_SIZE // 2 + 1, 2)), np.ones((SEVERAL_SIZE // 2 + 1, 2))
    small, large = make_design(y[:-1], S=S[:-1]), make_design(y, S=S)
    assert restartable(small, DEFAULT, False) and not restartable(large, DEFAULT, False)
    assert follows_all(small) and not follows_all(large)
    assert not restartable(small, Control(n_starts=2), False)
    assert not restartable(small, Control(start=np.eye(2)), False)


def test_two_outcomes_are_restarted_by_maximum_likelihood_alone():
    """Unless something else ties them, or there are three: there nothing is known of it."""
    y, S, groups = np.zeros((16, 3)), np.ones((16, 3)), pd.DataFrame({"g": np.arange(16) // 2})
    two, three = make_design(y[:, :2], S=S[:, :2]), make_design(y, S=S)
    tied = make_design(y[:, :2], S=S[:, :2], random="~ 1 | g", data=groups)
    slopes = make_design(y[:, 0], S=S[:, 0], random="~ g | g", data=groups)
    for restricted in (False, True):
        assert restartable(two, DEFAULT, restricted) is not restricted
        for other in (three, tied, slopes):
            assert restartable(other, DEFAULT, restricted)


def test_a_turned_factor_ends_with_what_the_other_effects_determine():
    """Then its last columns vanish, and no valley of equal likelihood is left."""
    design = random_design(k=4, q=(1,), n=12, codes=[np.arange(12)])
    Lambda = np.array([[2.0, 0], [-1.0, 0], [0.5, 0.3], [0, 0]])
    Psi, sizes = Lambda @ Lambda.T, np.array([4.0, 1.0, 0.3, 1.0])
    turned = _reordered(design, [Psi], [sizes])
    assert list(turned.structures[0].order) == [2, 0, 1, 3]
    theta = turned.structures[0].theta(Psi)
    np.testing.assert_allclose(theta[7:], 0, atol=1e-12)  # the columns beyond the rank
    with jax.enable_x64(True):
        np.testing.assert_allclose(turned.Psi(theta)[0], Psi, atol=1e-7)


def test_a_null_variance_is_a_bound_and_satisfies_kuhn_and_tucker():
    design = random_design(11, k=1, q=(1,), n=30, missing=0.0, codes=[np.arange(30)])
    small = replace(design, y=design.y * 0.05)
    fit = fit_design(small, "reml", DEFAULT)
    assert fit.status is Status.BOUNDARY
    assert fit.Psi[0].item() < 1e-12
    # The slope in the variance itself, by a one-sided difference, points outward.
    inside = Control(start=np.array([[1e-6]]), max_iter=1)
    assert fit_design(small, "reml", inside, ["level0"]).loglik < fit.loglik


def test_a_saddle_is_left():
    """From Ψ = 0 the gradient in θ vanishes, although the likelihood rises in Ψ."""
    design = with_effects(12, k=1, q=(1,), n=30, missing=0.0, codes=[np.arange(30)])
    fit = fit_design(design, "reml", Control(start=np.zeros((1, 1))), ["level0"])
    best = fit_design(design, "reml", DEFAULT)
    assert fit.status is Status.CONVERGED
    assert fit.loglik == pytest.approx(best.loglik, abs=1e-9)


def test_what_the_data_cannot_tell_is_not_identified():
    """Outcomes that are never seen together leave their correlation free."""
    n = 40
    design = with_effects(13, k=2, q=(1,), n=n, missing=0.0, codes=[np.arange(n)])
    mask = np.zeros((n, 2), bool)
    mask[np.arange(n), np.arange(n) % 2] = True
    apart = replace(design, mask=mask, complete=False)
    assert fit_design(apart, "ml", DEFAULT).status is Status.NOT_IDENTIFIED


def test_max_iter_is_a_status_and_not_an_exception(two_levels):
    plain = structured(two_levels, "id")
    fit = fit_design(plain, "reml", Control(max_iter=1, n_starts=1))
    assert fit.status is Status.MAX_ITER
    assert not fit.status.converged


def test_numbers_beyond_double_precision_are_a_status(two_levels):
    huge = replace(two_levels, y=two_levels.y * 1e200, S=two_levels.S * 1e-250)
    with np.errstate(over="ignore"):
        fit = fit_design(huge, "reml", DEFAULT)
    assert fit.status is Status.NOT_FINITE


def test_starts_of_the_wrong_shape_or_level(two_levels):
    names = ["outer", "inner"]
    with pytest.raises(InputError, match="start for level 'outer' must be a finite 2 × 2"):
        fit_design(two_levels, "ml", Control(start=np.eye(3)), names)
    with pytest.raises(InputError, match="start must give a matrix for each level"):
        fit_design(two_levels, "ml", Control(start={"outer": np.eye(2)}), names)


@pytest.mark.parametrize("backend", ["numpy", "jax"])
def test_verbose_prints_the_iterations(two_levels, capfd, backend):
    plain = structured(two_levels, "id")
    fit_design(plain, "ml", Control(verbose=True, n_starts=1, backend=backend))
    assert capfd.readouterr().out.startswith("start 1 of 1, evaluation 1: log-likelihood")


def test_verbose_says_which_start_it_is_on(two_levels, capfd):
    fit_design(two_levels, "ml", Control(verbose=True, backend="numpy"))
    told = [line.partition(", evaluation")[0] for line in capfd.readouterr().out.splitlines()]
    assert told[0].startswith("starts 1 to ") and told[0].endswith(f" of {told[0].split()[-1]}")
    # Some end before the others, which are told of by their numbers.
    assert len(set(told)) > 1
    # Data of many rows start where the likelihood is highest, one after the other.
    one = Control(verbose=True, backend="numpy", start={"outer": np.eye(2), "inner": np.eye(2)})
    fit_design(two_levels, "ml", one, ["outer", "inner"])
    assert "start 1 of 1, evaluation 1" in capfd.readouterr().out


def test_restarts_and_ways_on_are_told(capfd):
    """A fit at a bound of three outcomes is restarted; see `restarts.worth_restarting`."""
    rng = np.random.default_rng(0)
    y, S = rng.normal(0, 0.3, (12, 3)), np.ones((12, 3))
    mx.mixmeta(y, S=S, rho=0.0, control={"verbose": True, "backend": "numpy"})
    told = capfd.readouterr().out
    assert told.startswith("starts 1 to 3 of 3, evaluation 1")
    assert "restarts 1 to 24 of 24, evaluation 1" in told


@pytest.mark.parametrize(
    ("numbers", "which", "words"),
    [
        ((0, 1, 2), None, "starts 1 to 3 of 6"),
        ((0, 1, 2, 5), None, "starts 1 to 3, 6 of 6"),
        ((3, 4, 5), [0, 2], "starts 4, 6 of 6"),
        ((3, 4, 5), [1], "start 5 of 6"),
    ],
)
def test_what_is_told_of_paths(numbers, which, words):
    assert Told("start", numbers, 6).words(which) == words
    assert Told("way on", numbers, 6).words(which) == words.replace("starts", "ways on").replace(
        "start ", "way on "
    )


def test_similar_sizes_share_a_compilation():
    """Fifty data sets of 5 to 120 studies compile five programs."""
    before = PROGRAMS.compiled
    for seed, n in enumerate(np.linspace(5, 120, 50).astype(int)):
        design = random_design(seed, k=1, q=(1,), n=n, missing=0.0, codes=[np.arange(n)], p=1)
        fit_design(design, "reml", COMPILED)
    assert PROGRAMS.compiled - before <= 5


def observations(starts, tensors, units):
    return tensors.n_obs


@pytest.mark.parametrize(
    ("kind", "most"),
    [
        ({"k": 3, "q": (1,), "missing": 0.3}, 5),
        ({"k": 2, "q": (1, 1), "missing": 0.2}, 8),
        ({"k": 1, "q": (2,), "missing": 0.0, "blocks": True}, 8),
    ],
    ids=["missing outcomes", "two levels, ragged groups", "blocks of S of mixed sizes"],
)
def test_so_do_ragged_and_incomplete_data(kind, most):
    """Fifty data sets of each kind; programs of the same arguments as a fit's, but cheap."""
    programs = Programs()
    with jax.enable_x64(True):
        for seed, n in enumerate(np.linspace(8, 120, 50).astype(int)):
            codes = [np.arange(n)] if kind["k"] == 3 else None
            design = random_design(seed, n=n, codes=codes, **kind)
            starts = starting_parameters(design.structures, starting_variances(design))
            programs(observations, starts, placed(design, None), natural_units(starts))
    assert programs.compiled <= most


@pytest.mark.parametrize(("k", "n"), [(1, 20), (2, 20), (2, 600)])
@pytest.mark.parametrize("power", [-400, -300, 300, 400])
def test_outcomes_of_any_size(k, n, power):
    """A power of two changes no digit, but squares of ZᵀΣ⁻¹Z would be beyond the numbers."""
    design = random_design(0, k=k, q=(1,), n=n, p=1, codes=[np.arange(n)])
    size = 2.0**power
    scaled = replace(design, y=design.y * size, S=design.S * size**2)
    by_numpy = Control(backend="numpy")
    found, same = (fit_design(each, "reml", by_numpy) for each in (design, scaled))
    assert same.status is found.status
    assert found.status <= Status.BOUNDARY
    np.testing.assert_allclose(same.Psi[0] / size**2, found.Psi[0], rtol=1e-8)
    np.testing.assert_allclose(same.vcov / size**2, found.vcov, rtol=1e-8)
