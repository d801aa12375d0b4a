"""The arrangement of units in padded blocks: complete, bounded in waste, and without effect."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixmeta_jax.design import layout as layouts
from mixmeta_jax.design.design import orthonormal_basis, spanning_blocks
from mixmeta_jax.design.layout import _bucket_sizes, block_work, build_layout, padded_length
from mixmeta_jax.design.tensors import arrange
from mixmeta_jax.likelihood.likelihood import log_likelihood_at
from tests.dense_likelihood import dense_log_likelihood
from tests.designs import random_design


@given(st.integers(1, 3_000_000))
def test_padding_at_most_doubles_and_never_shrinks(n):
    padded = padded_length(n)
    assert n <= padded <= max(8, 2 * n)
    assert n <= 1024 or padded <= 1.25 * n
    assert padded_length(padded) == padded


def test_a_million_sizes_share_a_few_lengths():
    assert len({padded_length(n) for n in range(1, 10**6, 997)}) < 60


def blocks_of(sizes, rng):
    order = rng.permutation(sum(sizes))
    return [np.sort(part) for part in np.split(order, np.cumsum(sizes)[:-1])]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(0, 99), st.booleans())
def test_every_unit_has_one_place_among_its_block(sizes, seed, several_buckets):
    rows = blocks_of(sizes, np.random.default_rng(seed))
    n = sum(sizes)
    group = np.empty(n, int)
    for g, part in enumerate(rows):
        group[part] = g
    with pytest.MonkeyPatch.context() as patch:
        if several_buckets:
            patch.setattr(layouts, "FREE_WORK", 0.0)
        layout = build_layout(n, 1, [group], [1], rows)
    places = np.concatenate([bucket.rows.ravel() for bucket in layout.buckets])
    assert np.array_equal(np.sort(places[places < n]), np.arange(n))
    for bucket in layout.buckets:
        for column in bucket.rows.T:
            members = column[column < n]
            assert len(set(group[members])) <= 1
    if max(sizes) > 1:
        free = 0 if several_buckets else 5e5
        assert padded_work(layout, 1) <= max(2 * true_work(sizes, 1), free)


def padded_work(layout, k):
    shapes = [bucket.rows.shape for bucket in layout.buckets]
    return sum(N * float(block_work(n_b, k)) for n_b, N in shapes)


def true_work(sizes, k):
    return float(block_work(np.asarray(sizes), k).sum())


counts_by_size = st.dictionaries(
    st.one_of(st.integers(1, 20), st.integers(1, 400)), st.integers(1, 30_000), min_size=1
)


@given(counts_by_size, st.integers(1, 4))
def test_padding_wastes_less_than_a_factor_of_two_of_the_work(counts, k):
    sizes = np.array(sorted(counts))
    held = np.array([counts[size] for size in sizes.tolist()])
    tops, padded = _bucket_sizes(sizes, held, k, tight=False)
    assert tops == sorted(set(tops)) and tops[-1] >= sizes[-1]
    bucket = np.searchsorted(tops, sizes)
    inside = np.bincount(bucket, held, len(tops)).astype(int)
    work = sum(padded(int(c)) * float(block_work(top, k)) for c, top in zip(inside, tops))
    assert work <= max(2 * float(held @ block_work(sizes, k)), layouts.FREE_WORK)
    assert len(tops) <= 12


def test_one_large_study_does_not_pad_the_small_ones():
    layout = build_layout(550, 1, [], [], [np.arange(50), *np.arange(50, 550)[:, None]])
    assert [bucket.rows.shape for bucket in layout.buckets] == [(1, 512), (50, 1)] or (
        padded_work(layout, 1) <= 5e5
    )


def test_groups_of_one_to_twenty_thousand_rows_in_one_data_set():
    """Sums over groups need no padding by their size: the blocks stay single rows."""
    sizes = np.unique(np.geomspace(1, 20_000, 40).astype(int))
    outer = np.repeat(np.arange(len(sizes)), sizes)
    n = len(outer)
    layout = build_layout(n, 1, [outer, np.arange(n)], [1, 1])
    (bucket,) = layout.buckets
    assert bucket.rows.shape[0] == 1 and bucket.rows.shape[1] <= 1.25 * n
    assert layout.n_groups[-1] <= 64


def spanning(design, rows, seed=0):
    """The design with S in blocks of the given units."""
    rng = np.random.default_rng(seed)
    n, k = design.y.shape
    matrices = []
    for part in rows:
        root = rng.normal(size=(len(part) * k, len(part) * k))
        matrices.append(0.2 * root @ root.T / len(root) + 0.4 * np.eye(len(root)))
    layout = build_layout(n, k, list(design.groups.T), design.dims, rows)
    S = spanning_blocks(layout, tuple(zip(rows, matrices, strict=True)), n, k)
    return replace(design, S=S, layout=layout)


def assert_dense(design, method="reml"):
    with jax.enable_x64(True):
        theta = jnp.asarray(np.random.default_rng(1).normal(size=sum(design.n_parameters)))
        ours = jax.jit(
            lambda theta, tensors: log_likelihood_at(tensors.Psi(theta), tensors, method)
        )(theta, arrange(design))
        theirs = jax.jit(lambda theta: dense_log_likelihood(design.Psi(theta), design, method))(
            theta
        )
        assert float(ours) == pytest.approx(float(theirs), rel=1e-11)


@pytest.mark.parametrize("several", [True, False])
def test_buckets_by_size_change_nothing(several, monkeypatch):
    if several:
        monkeypatch.setattr(layouts, "FREE_WORK", 0.0)
        monkeypatch.setattr(layouts, "WASTE", 1.0)
    design = random_design(1, k=2, q=(1, 1), n=30)
    outer = design.groups[:, 0]
    rows = [np.flatnonzero(outer == g) for g in np.unique(outer)]
    whole = spanning(design, rows)
    assert len({len(r) for r in rows}) > 2
    assert (len(whole.layout.buckets) > 1) == several
    assert_dense(whole)


def test_a_level_that_cuts_across_blocks_merges_them():
    """Blocks of S tie units of different inner groups, and inner groups tie blocks."""
    design = random_design(2, k=1, q=(1, 1), n=12, missing=0.0)
    outer = np.repeat([0, 1], 6)
    inner = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5])
    codes = [outer, inner]
    rows = [np.array(r) for r in ([0], [1, 2], [3], [4, 5], [6, 7, 8], [9], [10, 11])]
    design = replace(design, groups=np.stack(codes, axis=1))
    crossed = spanning(design, rows)
    assert crossed.layout.inside == (1,)
    assert crossed.layout.absorbed == (0,)
    sizes = [int((bucket.rows < 12).sum(0).max()) for bucket in crossed.layout.buckets]
    assert max(sizes) == 4
    assert_dense(crossed)


def test_large_blocks_absorb_a_level_of_their_own_size():
    design = random_design(3, k=1, q=(2,), n=24, missing=0.0, codes=[np.repeat([0, 1], 12)])
    rows = [np.arange(12), np.arange(12, 24)]
    large = spanning(design, rows)
    assert large.layout.absorbed == (0,)
    assert_dense(large)
    small = random_design(3, k=1, q=(2,), n=24, missing=0.0, codes=[np.repeat(range(6), 4)])
    few = spanning(small, list(np.split(np.arange(24), 6)))
    assert few.layout.inside == (0,)
    assert_dense(few)


def test_fixed_effects_ignore_the_levels():
    design = random_design(4, k=2, q=(1, 1), n=16)
    bare = design.without_levels()
    assert bare.layout.inside == bare.layout.absorbed == ()
    with jax.enable_x64(True):
        ours = jax.jit(lambda tensors: log_likelihood_at((), tensors, "fixed"))(arrange(bare))
        null = (jnp.zeros((2, 2)), jnp.zeros((2, 2)))
        theirs = jax.jit(lambda Psi: dense_log_likelihood(Psi, design, "ml"))(null)
        assert float(ours) == pytest.approx(float(theirs))


def test_orthonormal_basis():
    rng = np.random.default_rng(5)
    X = np.column_stack([np.ones(40), 1990 + rng.normal(size=40), 1e-6 * rng.normal(size=40)])
    T = orthonormal_basis(X)
    np.testing.assert_allclose((X @ T).T @ (X @ T) / 40, np.eye(3), atol=1e-9)
