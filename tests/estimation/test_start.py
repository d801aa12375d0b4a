"""Starting values: numpy's and traced ones are the same numbers."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mixmeta_jax as mx
from mixmeta_jax.covariance.catalogue import STRUCTURES
from mixmeta_jax.estimation.start import (
    ONE_BY_ONE,
    heterogeneity,
    natural_units,
    starting_parameters,
    starting_variances,
)
from tests.covariance.test_structures import instance
from tests.designs import KINDS, random_design

# Written out: sides of the constants themselves would move with them.
COLLINEAR, RIDGE = 1e-10, 1e-14


def begin(design):
    starts = starting_parameters(design.structures, starting_variances(design))
    return starts, natural_units(starts)


@pytest.mark.parametrize("kind", KINDS)
def test_traced_starts_are_those_of_numpy(kind):
    design = random_design(seed=4, **KINDS[kind])
    starts, units = begin(design)
    assert isinstance(starts, np.ndarray) and (units > 0).all()
    with jax.enable_x64(True):
        traced = jax.jit(begin)(design)
    for ours, theirs in zip(traced, (starts, units), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


def test_heterogeneity_is_that_of_dersimonian_and_laird():
    # Least squares on the rows that are seen, the slow way.
    design = random_design(seed=3, k=2, n=25)
    found = starting_variances(design)[0]
    for o in range(2):
        seen = design.mask[:, o]
        w = 1 / design.S[seen, o, o]
        X, y = design.X[seen], design.y[seen, o]
        r = y - X @ np.linalg.solve(X.T @ (w[:, None] * X), X.T @ (w * y))
        excess = (w * r**2).sum() - (seen.sum() - 2)
        tau2 = excess / (w.sum() - (w**2).sum() / w.sum())
        assert found[o, 0] == pytest.approx(max(tau2, 0.05 / w.mean()), rel=1e-10)


@pytest.mark.parametrize("p", [2, ONE_BY_ONE + 1])
@pytest.mark.parametrize(("part", "taken"), [(0.5, False), (2.0, True)])
def test_what_others_leave_of_a_predictor_counts_from_a_part_on(part, taken, p):
    """On each side of `COLLINEAR`, where predictors are taken out one by one, or of the ridge."""
    n = 60
    angle = 2 * np.pi * np.arange(n) / n
    waves = [np.cos(a * angle) for a in range(1, p)]  # orthogonal, and to the constant
    X = np.column_stack([np.ones(n), *waves])
    limit = COLLINEAR
    if p > ONE_BY_ONE:  # a ridge on the products takes over little by little
        limit, part = np.sqrt(RIDGE * p), part**8
    X[:, -1] = 1 + part * limit * np.sqrt(2) * waves[-1]
    y, ones = 100 * waves[-1][:, None], np.ones((1, n, 1))
    (found,) = heterogeneity(y[None], ones > 0, ones, X[None])[:, 0]
    alone = 100**2 * n / 2 / (n - 1)
    assert found == pytest.approx(0.05 if taken else alone, rel=0.1)


def test_too_few_outcomes_for_the_predictors_leave_a_small_part_of_the_error_variance():
    design = random_design(seed=3, k=2, n=12, missing=0.0)
    mask = design.mask.copy()
    mask[1:, 1] = False
    found = starting_variances(replace(design, mask=mask, complete=False))[0]
    assert found[1, 0] == pytest.approx(0.05 * design.S[0, 1, 1])


def test_starts_under_vmap():
    design = random_design(seed=5, k=2, n=12)
    y = np.stack([design.y, 2 * design.y, design.y[::-1]])
    masks = np.stack([design.mask, design.mask, design.mask[::-1]])
    with jax.enable_x64(True):
        many = jax.vmap(lambda y, mask: begin(replace(design, y=y, mask=mask)))(y, masks)
    for member, (values, mask) in enumerate(zip(y, masks, strict=True)):
        alone = begin(replace(design, y=values, mask=mask))
        for ours, theirs in zip(many, alone, strict=True):
            np.testing.assert_allclose(ours[member], theirs, rtol=1e-10, atol=1e-12)


def test_starts_of_several_data_sets_are_those_of_each():
    """Their own outcomes, masks, S and predictors of both kinds."""
    rng = np.random.default_rng(6)
    design = random_design(seed=5, k=2, q=(2, 1), n=12)
    masks = np.stack([design.mask, np.ones((12, 2), bool), design.mask[::-1]])
    many = replace(
        design,
        y=np.stack([design.y, rng.normal(size=(12, 2)), design.y[::-1]]),
        mask=masks,
        S=design.S * np.array([1.0, 0.5, 2.0])[:, None, None, None],
        X=design.X + 0.1 * rng.normal(size=(3, 12, 2)),
        Z=(design.Z[0] * np.array([1.0, 3.0, 0.2])[:, None, None], design.Z[1]),
        complete=False,
    )
    many = replace(many, y=np.where(masks, np.nan_to_num(many.y), np.nan))
    starts, units = begin(many)
    assert starts.shape[2] == units.shape[1] == 3
    for member in range(3):
        alone, own = begin(many.one(member))
        np.testing.assert_allclose(starts[:, :, [member]], alone, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(units[:, [member]], own, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", STRUCTURES)
def test_every_structure_starts_from_traced_variances(name):
    structure, variances = instance(name), np.array([1.0, 2.0, 0.5])
    with jax.enable_x64(True):
        traced = jax.jit(structure.starts)(variances)
    sets = structure.starts_of_sets(variances[:, None] * [1.0, 4.0])
    for ours, theirs, both in zip(traced, structure.starts(variances), sets, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(both[:, 0], theirs, rtol=1e-12, atol=1e-14)


class Banded(mx.Structure):
    """A structure of one's own that knows its Ψ and nothing else."""

    name = "banded"

    def n_parameters(self, d):
        return 2

    def psi(self, theta, d):
        band = jnp.eye(d) + 0.5 * jnp.sin(theta[1]) * (jnp.eye(d, k=1) + jnp.eye(d, k=-1))
        return theta[0] ** 2 * band


def test_a_structure_of_ones_own_starts_near_the_same_matrix():
    structure, variances = Banded(), np.array([0.02, 0.02, 0.02])
    (own,) = structure.starts(variances)
    with jax.enable_x64(True):
        (traced,) = jax.jit(structure.starts)(variances)
        for theta in (own, traced):
            np.testing.assert_allclose(structure.psi(theta, 3), np.diag(variances), atol=1e-7)
