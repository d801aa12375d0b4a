"""BLUPs by group, and joint covariances, against full matrices."""

import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from mixmeta_jax.errors import InputError
from tests.dense_model import gls, levels_covariance, stacked
from tests.models import MODELS, NUMPY, fitted

EXACT = 1e-8


def dense_joint(fit, depth, average):
    """BLUPs of ``average`` times the outcomes of all units: values, and four joint covariances."""
    y, X, _, S, seen = stacked(fit)
    beta, V, _ = gls(fit)
    Sigma = (levels_covariance(fit) + S)[np.ix_(seen, seen)]
    G = levels_covariance(fit, depth)
    to_seen = G[:, seen] @ np.linalg.inv(Sigma)
    random = to_seen @ (y - X @ beta)[seen]
    left = G - to_seen @ G[seen]
    along = to_seen @ X[seen]
    expected = X @ beta + fit.frame.offset.ravel()
    found = {
        ("outcome", "paper"): X @ V @ X.T + left,
        ("outcome", "exact"): (X - along) @ V @ (X - along).T + left,
        ("residual", "paper"): left,
        ("residual", "exact"): along @ V @ along.T + left,
    }
    values = {"outcome": average @ (expected + random), "residual": average @ random}
    return values, {kind: average @ cov @ average.T for kind, cov in found.items()}


def means_of(codes, k):
    member = codes == np.arange(codes.max() + 1)[:, None]
    return np.kron(member / member.sum(1, keepdims=True), np.eye(k))


@pytest.mark.parametrize("name", MODELS)
def test_joint_covariances(name):
    fit, _ = fitted(name)
    k = fit.frame.k
    for depth in range(1, fit.n_levels + 1):
        codes = fit.frame.levels[depth - 1].codes
        for by, average in (("unit", np.eye(fit.frame.n * k)), ("group", means_of(codes, k))):
            values, covariances = dense_joint(fit, depth, average)
            for (kind, method), expected in covariances.items():
                table, joint = fit.blup(
                    depth, type=kind, se=True, se_method=method, vcov="joint", by=by
                )
                size = EXACT * np.abs(expected).max()
                np.testing.assert_allclose(joint, expected, rtol=0, atol=size)
                assert joint.index.equals(joint.columns)
                blups, se = (
                    table[[s]] if k == 1 else table.xs(s, axis=1, level=1) for s in ("blup", "se")
                )
                np.testing.assert_allclose(
                    blups.to_numpy().ravel(), values[kind], rtol=EXACT, atol=EXACT
                )
                diagonal = np.sqrt(np.diag(expected))
                np.testing.assert_allclose(se.to_numpy().ravel(), diagonal, rtol=EXACT, atol=1e-9)


def test_labels_of_groups():
    fit, _ = fitted("three levels")
    outer = fit.blup(level="g", by="group", se=True, pi=True)
    assert outer.index.name == "g" and list(outer) == ["blup", "se", "pi_lower", "pi_upper"]
    inner, covariances = fit.blup(level="h", by="group", vcov=True)
    assert list(inner.index.names) == ["g", "h"] and covariances.shape == (len(inner), 1, 1)
    _, joint = fit.blup(level="h", by="group", vcov="joint")
    np.testing.assert_allclose(np.diag(joint), covariances[:, 0, 0], rtol=EXACT)
    assert list(joint.index.names) == ["g", "h"]


def test_groups_without_predictors_are_their_units():
    fit = mx.mixmeta("effect", "var", mx.load_dataset("school"), random="~ 1 | district/study")
    units = fit.blup(level="district", se=True)
    units.index = pd.Index(mx.load_dataset("school").district)
    groups = fit.blup(level="district", se=True, by="group")
    first = units[~units.index.duplicated()]
    np.testing.assert_allclose(groups, first, rtol=EXACT)
    # A contrast of two groups is known better than independent ones would be.
    _, joint = fit.blup(level="district", by="group", vcov="joint", se_method="exact")
    assert (joint.to_numpy()[~np.eye(11, dtype=bool)] > 0).all()


def test_joint_covariance_of_several_outcomes_is_labelled_by_both():
    fit, _ = fitted("multivariate, missing outcomes")
    _, joint = fit.blup(vcov="joint")
    assert list(joint.index.names)[-1] == "outcome"
    assert list(joint.index[:2]) == [(0, "y1"), (0, "y2")]
    new = fit.arguments["data"].iloc[:3]
    table = fit.blup(newdata=new, S=["v1", "v2"], by="group", vcov="joint")[0]
    np.testing.assert_allclose(table, fit.blup().iloc[:3], rtol=EXACT)


def test_excluded_rows_are_nan():
    data = mx.load_dataset("bcg")
    data.loc[2, "ablat"] = np.nan
    fit = mx.mixmeta("logor ~ ablat", "logorvar", data, na_action="exclude")
    for _, joint in (fit.blup(vcov="joint"), fit.predict(vcov="joint")):
        assert joint.shape == (13, 13)
        assert joint.isna().to_numpy().sum() == 25 and joint.loc[2].isna().all()


def test_what_has_no_groups():
    fixed = mx.mixmeta("logor", "logorvar", mx.load_dataset("bcg"), method="fixed")
    with pytest.raises(InputError, match="fixed-effects model has none"):
        fixed.blup(by="group")
    fit, _ = fitted("univariate")
    with pytest.raises(InputError, match="counted from 1"):
        fit.blup(level=0, by="group")
    with pytest.raises(InputError, match="'unit', 'group'"):
        fit.blup(by="unit level")
    with pytest.raises(InputError, match="'joint'"):
        fit.blup(vcov="all")


def test_units_of_several_index_levels_as_groups():
    berkey = mx.load_dataset("berkey98").set_index(["trial", "pubyear"])
    fit = mx.mixmeta("PD + AL", ["var_PD", "cov_PD_AL", "var_AL"], berkey, control=NUMPY)
    table, joint = fit.blup(by="group", vcov="joint")
    assert joint.shape == (10, 10) and joint.index[1] == (("Pihlstrom", 1983), "AL")
    assert fit.blup(vcov="joint")[1].index[1] == ("Pihlstrom", 1983, "AL")
    assert list(table.index) == list(berkey.index)
