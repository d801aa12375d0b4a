"""One set of rules: a data set has the same fault alone, as a sentence, and in a batch."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mixmeta_jax as mx
from mixmeta_jax.covariance.catalogue import resolve_structures
from mixmeta_jax.errors import InputError
from mixmeta_jax.many.many_checks import sound_members
from mixmeta_jax.many.many_data import many_model
from mixmeta_jax.status import Status
from mixmeta_jax.table.frame import build_frame
from mixmeta_jax.table.rules import count_faults, model_faults, raise_first

N, K = 8, 2
GROUPS = np.repeat(np.arange(4), 2)


def base(seed=0):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"x": rng.normal(size=N), "late": (np.arange(N) > 5) * 1.0})
    table["z"] = table["x"] + 1e-10 * rng.normal(size=N)
    table["g"], table["u"], table["all"] = GROUPS, np.arange(N), 1
    S = np.array([np.cov(rng.normal(size=(9, K)).T) for _ in range(N)])
    return table, rng.normal(size=(N, K)), S


def alone(y, S, right, method, random, bscov, table):
    """What `mixmeta` says before it fits, empty where it fits."""
    data = table.assign(**{f"y{o + 1}": y[:, o] for o in range(K)})
    try:
        frame = build_frame(f"y1 + y2 {right}", S, data, random)
        seen = np.isfinite(frame.y)[None]
        raise_first(count_faults(method, seen, frame.p))
        dims = [K * level.Z.shape[1] for level in frame.levels]
        names = [level.name for level in frame.levels]
        structures = resolve_structures(bscov, None, names, dims) if method != "fixed" else ()
        raise_first(model_faults(method, frame.model(structures), frame.within, seen))
    except InputError as error:
        return str(error)
    return ""


def together(ys, S, right, method, random, bscov, table):
    """The reasons of a batch."""
    model = many_model(np.stack(ys), S, right, random, table, bscov, None, None, None)
    if method == "fixed":
        model = replace(model, design=model.design.without_levels())
    _, status, reason = sound_members(model, method)
    assert ((status < 0) == (reason == "")).all()
    return reason


def change(target, rows, value):
    def changed(y, S):
        (y if target == "y" else S)[rows] = value

    return changed


def unread(y, S):
    S[2, 0], S[2, :, 0], y[2, 0] = np.nan, np.nan, np.nan


def apart(y, S):
    y[:4, 0], y[4:, 1] = np.nan, np.nan


singular = [[0.5, 0.5], [0.5, 0.5]]
# What breaks a data set, in which model, and words of the sentence; none where it is legal.
CASES = {
    "infinite outcome": (change("y", (3, 0), np.inf), {}, "'y1' is infinite in row 3"),
    "nothing": (change("y", slice(None), np.nan), {}, "every outcome is missing"),
    "an outcome never": (change("y", np.s_[:, 1], np.nan), {}, "'y2' is missing in every row"),
    "one row": (change("y", np.s_[1:, 1], np.nan), {}, "'y2' is observed in 1 row(s), fewer"),
    "two rows": (change("y", np.s_[2:, 1], np.nan), {"bscov": "id"}, ""),
    "zero predictor": (
        change("y", np.s_[6:, 0], np.nan),
        {"right": "~ late"},
        "'late' is zero in every row where the outcome 'y1'",
    ),
    "collinear": (
        change("y", np.s_[:6, 1], np.nan),
        {"right": "~ late"},
        "is collinear with",
    ),
    "nearly collinear, by 1e-10": (
        change("y", (0, 0), np.nan),
        {"right": "~ x + z"},
        "is collinear with",
    ),
    "S missing": (change("S", (2, 0, 0), np.nan), {}, "S is missing for 'y1' in row 2"),
    "S missing, not read": (unread, {}, ""),
    "S infinite": (change("S", (2, 1, 1), np.inf), {}, "S is infinite for 'y2' in row 2"),
    "S negative": (change("S", (2, 1, 1), -1.0), {}, "negative variance (-1) for 'y2' in row 2"),
    "S asymmetric": (change("S", 4, [[1, 0.5], [0.4, 1]]), {}, "S is not symmetric in row 4"),
    "S indefinite": (change("S", 4, [[1, 2], [2, 1]]), {}, "not positive definite in row 4"),
    "S nearly singular": (change("S", 4, [[1, 1 - 5e-13], [1 - 5e-13, 1]]), {}, ""),
    "S singular": (change("S", 4, singular), {}, ""),
    "S singular, fixed": (change("S", 4, singular), {"method": "fixed"}, "'fixed' weights by"),
    "S singular, mm": (change("S", 4, singular), {"method": "mm"}, "'mm' weights by"),
    "S zero": (change("S", 4, np.zeros((2, 2))), {"method": "ml"}, ""),
    "S zero in a group": (
        change("S", slice(2, 4), np.zeros((2, 2))),
        {"random": "~ 1 | g"},
        "do not make up for it",
    ),
    "S zero in a group of rows": (
        change("S", slice(2, 4), np.zeros((2, 2))),
        {"random": "~ 1 | g/u"},
        "",
    ),
    "as many outcomes as coefficients": (
        change("y", np.s_[2:], np.nan),
        {"bscov": "id"},
        "REML needs more observed outcomes (4) than coefficients (4)",
    ),
    "never seen together": (
        apart,
        {"right": "~ 1"},
        "the covariance of 'y1' and 'y2' at level 'unit' (structure 'unstr', 8 groups)",
    ),
    "one group left": (
        change("y", np.s_[2:], np.nan),
        {"right": "~ 1", "random": "~ 1 | g"},
        "at level 'g' (structure 'unstr', one group)",
    ),
    "two groups left": (change("y", np.s_[4:], np.nan), {"right": "~ 1", "random": "~ 1 | g"}, ""),
}
MODEL = {"right": "~ x", "method": "reml", "random": None, "bscov": "unstr"}


@pytest.mark.parametrize("case", CASES)
def test_a_fault_is_the_same_alone_and_in_a_batch(case):
    broken, changes, words = CASES[case]
    table, y, S = base()
    model = {**MODEL, **changes, "table": table}
    bad_y, bad_S = y.copy(), S.copy()
    broken(bad_y, bad_S)
    said = alone(bad_y, bad_S, **model)
    assert (words in said) if words else said == ""
    other = y.copy()
    other[7, 1] = np.nan  # data sets of several patterns
    reasons = together([y, bad_y, other], np.stack([S, bad_S, S]), **model)
    assert reasons[1] == said
    sound = [alone(each, S, **model) for each in (y, other)]
    assert reasons[[0, 2]].tolist() == sound
    # The S that is broken shared: each data set has the fault where it reads that part of S.
    if not (bad_S == S).all():
        try:
            reasons = together([y, bad_y, other], bad_S, **model)
        except InputError as error:
            reasons = [str(error)] * 3
        assert reasons[1] == said


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["~ 1", "~ x", "~ late", "~ x + z"]),
    st.sampled_from(["fixed", "ml", "reml", "mm"]),
    st.sampled_from([None, "~ 1 | g", "~ 1 | g/u", "~ x | g", "~ 1 | all/g"]),
    st.sampled_from(["unstr", "diag", "cs", "id"]),
)
@settings(max_examples=60, deadline=None)
def test_any_data_sets_are_judged_as_each_alone(seed, right, method, random, bscov):
    rng = np.random.default_rng(seed)
    table, _, _ = base()
    ys, SS = [], []
    for _ in range(4):
        y, S = rng.normal(size=(N, K)), base(int(rng.integers(99)))[2]
        y[rng.random((N, K)) < rng.choice([0, 0.2, 0.6])] = np.nan
        if rng.random() < 0.3:
            y[rng.integers(N), rng.integers(K)] = np.inf
        for _ in range(rng.integers(3)):
            S[rng.integers(N)] = [singular, np.zeros((2, 2)), np.eye(2), np.full((2, 2), np.nan)][
                rng.integers(4)
            ]
        ys.append(y)
        SS.append(S)
    model = {"right": right, "method": method, "random": random, "bscov": bscov, "table": table}
    expected = [alone(y, S, **model) for y, S in zip(ys, SS, strict=True)]
    assert together(ys, np.stack(SS), **model).tolist() == expected


def test_two_copies_no_longer_disagree_on_correlations_near_one():
    r = 1 - 5e-13
    S = np.tile([[1, r], [r, 1]], (10, 1, 1)) * 0.2
    y = np.random.default_rng(1).normal(size=(10, 2))
    single = mx.mixmeta(y, S)
    for given_S in (S, np.stack([S, S])):
        fits = mx.fit_many(np.stack([y, y]), given_S)
        assert [Status(int(s)) for s in fits.status] == [single.status] * 2
        np.testing.assert_allclose(fits.loglik, single.loglik, rtol=1e-9)


def test_two_copies_no_longer_disagree_on_predictors_that_are_next_to_collinear():
    rng = np.random.default_rng(2)
    table = pd.DataFrame({"x": rng.normal(size=12)})
    table["z"] = table["x"] + 1e-10 * rng.normal(size=12)
    y = rng.normal(size=(3, 12))
    with pytest.raises(InputError, match="is collinear with") as said:
        mx.mixmeta("y ~ x + z", np.full(12, 0.2), table.assign(y=y[0]))
    with pytest.raises(InputError, match="is collinear with"):
        mx.fit_many(y, np.full(12, 0.2), "~ x + z", data=table)
    y[1, 3] = np.nan
    fits = mx.fit_many(y, np.full(12, 0.2), "~ x + z", data=table, returns=("status", "reason"))
    assert (fits.status == Status.NOT_IDENTIFIED).all()
    assert fits.reason[0] == str(said.value)


@pytest.mark.parametrize(("noise", "refused"), [(3e-10, True), (3e-9, False)])
def test_each_side_of_collinear(noise, refused):
    x = np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    table = pd.DataFrame({"x": x, "z": x + noise * np.array([1.0, 1.0, -1.0, -1.0, 0.0, 0.0])})
    y, S = np.arange(12.0).reshape(2, 6) ** 2, np.full(6, 0.2)
    y[1, 5] = np.nan
    model = many_model(y, S, "~ 0 + x + z", None, table, "unstr", None, None, None)
    _, status, _ = sound_members(model, "reml")
    assert (status == (Status.NOT_IDENTIFIED if refused else -1)).all()


def test_a_study_without_error_is_fitted():
    """guido-s/meta#17: metafor 3.8 and mixmeta 1.2.1 agree on these."""
    data = pd.DataFrame(
        {"y": [0.1, 0.5, 0.3, 0.9, 0.2, 0.4], "v": [0, 0.02, 0.03, 0.05, 0.01, 0.04]}
    )
    fit = mx.mixmeta("y", "v", data)
    assert fit.loglik == pytest.approx(-0.578384, abs=1e-6)
    assert fit.coef.iloc[0] == pytest.approx(0.348772, abs=1e-6)
    assert fit.Psi.iloc[0, 0] == pytest.approx(0.0471146, abs=1e-6)
    assert mx.mixmeta("y", "v", data, method="ml").loglik == pytest.approx(-0.096262, abs=1e-6)
    assert fit.qtest()[["Q", "pvalue", "I2"]].isna().all(axis=None)
    assert fit.qtest()["df"].tolist() == [5, 5]
    assert "nan" in str(fit.summary()).lower()


def test_a_block_that_is_singular_is_fitted():
    """Two rows of one sample: the likelihood is finite, and the fit is at its maximum."""
    data = pd.DataFrame(
        {"id": ["p1"] * 3 + ["p2"] * 2 + ["p3"], "nr": [1, 2, 3, 1, 2, 1]}
        | {"y": [0.2, 0.3, 0.4, 0.1, 0.5, 0.3]}
    )
    V = np.array([[0.04, 0.04, 0.02], [0.04, 0.04, 0.02], [0.02, 0.02, 0.05]])
    S = {"p1": V, "p2": np.eye(2) * 0.03, "p3": [[0.02]]}
    fit = mx.mixmeta("y", S, data, random="~ 1 | id/nr")
    full = np.zeros((6, 6))
    full[:3, :3], full[3:5, 3:5], full[5, 5] = V, S["p2"], 0.02
    same = np.equal.outer(data.id.to_numpy(), data.id.to_numpy())
    y = data.y.to_numpy()

    def loglik(a, b):
        s = full + a * same + b * np.eye(6)
        P = np.linalg.inv(s)
        r = y - P.sum(0) @ y / P.sum()
        logs = 5 * np.log(2 * np.pi) - np.log(6) + np.log(P.sum()) + np.linalg.slogdet(s)[1]
        return -0.5 * (logs + r @ P @ r)

    psi = [float(Psi.iloc[0, 0]) for Psi in fit.Psi.values()]
    assert fit.loglik == pytest.approx(loglik(*psi), abs=1e-8)
    grid = [
        loglik(a, b) for a in np.linspace(0, 0.05, 51) for b in np.exp(np.linspace(-14, -1, 131))
    ]
    assert fit.loglik > max(grid) - 1e-4
    with pytest.raises(InputError, match="level 'id' do not make up for it"):
        mx.mixmeta("y", S, data, random="~ 1 | id")


def test_correlations_whose_diagonal_is_rounded_are_read():
    C = np.array([[1 + 2e-16, 0.3], [0.3, 1 - 1e-16]])
    data = pd.DataFrame({"a": [0.1, 0.4, 0.3, 0.7], "b": [0.2, 0.1, 0.4, 0.3], "v": 0.1})
    fit = mx.mixmeta("a + b", ["v", "v"], data, rho=C, bscov="id")
    assert fit.loglik == mx.mixmeta("a + b", ["v", "v"], data, rho=0.3, bscov="id").loglik
    np.testing.assert_array_equal(mx.inputcov([[1.0, 1.0]], C), mx.inputcov([[1.0, 1.0]], 0.3))
    with pytest.raises(InputError, match="between -1 and 1"):
        mx.inputcov([[1.0, 1.0]], 1 + 1e-9)
