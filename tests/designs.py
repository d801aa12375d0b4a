"""Small random designs of every kind, for the tests of the numbers against slow implementations."""

from dataclasses import replace

import numpy as np

from mixmeta_jax.covariance.catalogue import resolve_structures
from mixmeta_jax.design.design import Design, orthonormal_basis, spanning_blocks
from mixmeta_jax.design.layout import build_layout


def nested_codes(rng, n, n_levels, rows_innermost=True):
    """Groups of each unit, outer first, numbered in an order unrelated to that of the rows."""
    codes = [np.unique(rng.integers(0, max(3, n // 5), n), return_inverse=True)[1]]
    for level in range(1, n_levels):
        if level == n_levels - 1 and rows_innermost:
            codes.append(rng.permutation(n))
        else:
            inner = codes[-1] * 3 + rng.integers(0, 2, n)
            codes.append(np.unique(inner, return_inverse=True)[1])
    return codes


def random_design(
    seed=0,
    k=2,
    q=(1,),
    n=20,
    p=2,
    missing=0.2,
    blocks=False,
    bscov="unstr",
    Psi_fix=None,
    codes=None,
):
    """A design with q[ℓ] random predictors at level ℓ; ``blocks``: S spans the outer groups."""
    rng = np.random.default_rng(seed)
    codes = nested_codes(rng, n, len(q)) if codes is None else codes
    X = np.column_stack([np.ones(n), rng.normal(3, 1, (n, p - 1))])
    Z = tuple(np.column_stack([np.ones(n), rng.normal(size=(n, size - 1))]) for size in q)
    mask = rng.random((n, k)) >= missing
    mask[np.arange(n), rng.integers(0, k, n)] = True
    y = np.where(mask, rng.normal(1, 1, (n, k)), np.nan)
    root = rng.normal(size=(n, k, k))
    S = 0.3 * (root @ root.transpose(0, 2, 1) + np.eye(k))
    dims = [k * size for size in q]
    names = [f"level{level}" for level in range(len(q))]
    structures = resolve_structures(bscov, Psi_fix, names, dims)
    layout = build_layout(n, k, codes, dims)
    if blocks:
        rows = [np.flatnonzero(codes[0] == g) for g in np.unique(codes[0])]
        matrices = []
        for r in rows:
            root = rng.normal(size=(len(r) * k, len(r) * k))
            matrices.append(0.2 * root @ root.T / len(root) ** 0.5 + 0.3 * np.eye(len(root)))
        layout = build_layout(n, k, codes, dims, rows)
        S = spanning_blocks(layout, tuple(zip(rows, matrices, strict=True)), n, k)
    return Design(
        y=y,
        X=X,
        S=S,
        Z=Z,
        mask=mask,
        basis=orthonormal_basis(X),
        groups=np.stack(codes, axis=1),
        structures=structures,
        layout=layout,
        complete=bool(mask.all()),
    )


KINDS = {
    "univariate": {"k": 1, "q": (1,), "missing": 0.0},
    "one group per row": {"k": 3, "q": (1,), "codes": [np.arange(20)]},
    "random slope": {"k": 1, "q": (2,), "missing": 0.0},
    "bivariate, two levels": {"k": 2, "q": (2, 1)},
    "three levels": {"k": 1, "q": (2, 1, 1), "missing": 0.0, "n": 30},
    "blocks of S": {"k": 1, "q": (2,), "blocks": True, "missing": 0.0, "n": 30},
    "blocks of S, two outcomes, two levels": {"k": 2, "q": (1, 1), "blocks": True, "n": 14},
}
"""One design of each kind that the engine treats in its own way."""


def several(design, own, B=3, seed=9):
    """Data sets of a design that have outcomes of their own, and more."""
    rng = np.random.default_rng(seed)
    n, k = design.y.shape
    changes = {"y": rng.normal(1, 1, (B, n, k))}
    if "mask" in own:
        mask = rng.random((B, n, k)) > 0.15
        mask[:, :3] = True
        changes |= {"mask": mask, "complete": False}
    if "X" in own:
        changes["X"] = design.X + 0.3 * rng.normal(size=(B, *design.X.shape))
    if "Z" in own:
        changes["Z"] = tuple(Z * rng.uniform(0.5, 2, (B, n, 1)) for Z in design.Z)
    if "S" in own:
        changes["S"] = design.S * rng.uniform(0.5, 2, (B, 1, 1, 1))
    many = replace(design, **changes)
    return replace(many, y=np.where(many.mask, many.y, np.nan))
