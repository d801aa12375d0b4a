"""Two-stage analyses: from a pair per location to a fit and curves."""

import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from tests.tolerances import BACKENDS


def first_stage(n, k=2, seed=1):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, k, k))
    V = 0.05 * (root @ root.transpose(0, 2, 1) + np.eye(k))
    x = rng.normal(size=n)
    b = 0.5 + 0.2 * x[:, None] + rng.normal(size=(n, k)) * 0.5
    return [f"city {i}" for i in range(n)], b, V, pd.DataFrame({"x": x})


@pytest.fixture(scope="module")
def fitted():
    labels, b, V, data = first_stage(12)
    data.index = labels
    pairs = dict(zip(labels, zip(b, V, strict=True), strict=True))
    # Rows of the frame are found by label, whatever their order.
    return mx.pool(pairs, "~ x", data=data[::-1], bscov="diag"), (b, V, data)


def test_a_pool_is_the_fit_of_its_arrays(fitted):
    fit, (b, V, data) = fitted
    frame = data.assign(b1=b[:, 0], b2=b[:, 1])
    direct = mx.mixmeta("b1 + b2 ~ x", S=V, data=frame, bscov="diag")
    np.testing.assert_allclose(fit.coef, direct.coef, rtol=1e-12)
    assert list(fit.index) == list(data.index)


def test_curves_are_the_basis_times_the_blups(fitted):
    fit, _ = fitted
    basis = np.array([[0.0, 0.0], [1.0, 2.0], [3.0, -1.0]])
    curves = mx.curves(fit, basis, at=[10, 20, 30])
    table, vcov = fit.blup(vcov=True)
    one = curves.loc["city 4"]
    np.testing.assert_allclose(one["curve"], basis @ table.to_numpy()[4], rtol=1e-12)
    expected = np.sqrt(np.diag(basis @ vcov[4] @ basis.T))
    np.testing.assert_allclose(one["se"], expected, rtol=1e-12)
    assert (one["lower"] <= one["curve"]).all() and one.loc[10, "se"] == 0


def test_arrays_and_labels_in_place_of_a_mapping():
    labels, b, V, _ = first_stage(10, k=1)
    arrays = mx.pool((b, V), labels=labels)
    pairs = mx.pool(list(zip(b, V[:, 0, 0], strict=True)))
    np.testing.assert_allclose(arrays.coef, pairs.coef, rtol=1e-12)
    assert arrays.index[3] == "city 3" and pairs.index[3] == 3


def test_ten_thousand_locations_as_pairs_and_as_arrays():
    _, b, V, _ = first_stage(10_000)
    pairs = mx.pool(list(zip(b.tolist(), V, strict=True)), bscov="id")
    frame = pd.DataFrame(b, columns=["b1", "b2"])
    direct = mx.mixmeta("b1 + b2", S=V, data=frame, bscov="id")
    np.testing.assert_allclose(pairs.coef, direct.coef, rtol=1e-12)
    np.testing.assert_allclose(pairs.Psi, direct.Psi, rtol=1e-12)
    curve = mx.curves(pairs, [[1.0, 2.0]])["curve"]
    np.testing.assert_allclose(curve, direct.blup().to_numpy() @ [1.0, 2.0], rtol=1e-10)


LABELS, B, V, DATA = first_stage(5)
PAIRS = list(zip(B, V, strict=True))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"estimates": []}, "estimates is empty"),
        ({"estimates": [*PAIRS, (np.ones(3), np.eye(3))]}, r"location 5 has 3 coefficients.*2"),
        ({"estimates": [*PAIRS, (np.ones(2), np.eye(3))]}, r"shape \(3, 3\)"),
        ({"estimates": [*PAIRS, np.ones(2)]}, "give a pair .* for location 5"),
        ({"estimates": [*PAIRS, (np.ones(2), np.ones((2, 2)))]}, "location 5 is not positive"),
        ({"estimates": [*PAIRS, (np.ones(2), [[1, 0.5], [0, 1]])]}, "not symmetric"),
        ({"estimates": [*PAIRS, ([np.nan, 1], np.eye(2))]}, "location 5.*not finite"),
        ({"estimates": PAIRS, "labels": ["a"]}, "labels has 1 entries for 5"),
        ({"estimates": PAIRS, "labels": list("aabcd")}, "'a' stands for two"),
        ({"estimates": (B, V[:3])}, "of shape .5, 2., but 3 covariances"),
        ({"estimates": PAIRS, "names": ["b", "b"]}, "2 different ones"),
        ({"estimates": PAIRS, "names": ["a b", "c`d"]}, "leave out the backtick"),
        ({"estimates": PAIRS, "labels": LABELS, "data": DATA}, "no row for location 'city 0'"),
        ({"estimates": PAIRS, "data": DATA.rename(columns={"x": "b1"})}, "column 'b1'"),
        ({"estimates": PAIRS, "data": DATA.set_axis([0, 0, 1, 2, 3])}, "two rows for 0"),
    ],
)  # fmt: skip
def test_bad_input(arguments, sentence):
    with pytest.raises(mx.InputError, match=sentence):
        mx.pool(**arguments)


def test_bad_bases(fitted):
    with pytest.raises(mx.InputError, match=r"must have \(m, 2\)"):
        mx.curves(fitted[0], np.ones((3, 3)))
    with pytest.raises(mx.InputError, match="at has 2 values"):
        mx.curves(fitted[0], np.ones((3, 2)), at=[1, 2])


class Reduced:
    """What a program of distributed lags returns: an object with both."""

    def __init__(self, b, V):
        self.coefficients, self.vcov = b, V


class Results:
    """What statsmodels returns: the covariance by a method."""

    def __init__(self, b, V):
        self.params, self._V = pd.Series(b, index=["warm", "hot"]), V

    def cov_params(self):
        return pd.DataFrame(self._V, index=["warm", "hot"], columns=["warm", "hot"])


def named(b, V):
    columns = ["warm", "hot"]
    return pd.Series(b, columns), pd.DataFrame(V, columns, columns)


FORMS = {
    "dicts": lambda: [{"coef": b, "vcov": V} for b, V in PAIRS],
    "dicts of other keys": lambda: [{"coefficients": b, "cov": V} for b, V in PAIRS],
    "objects": lambda: [Reduced(b, V) for b, V in PAIRS],
    "results": lambda: [Results(b, V) for b, V in PAIRS],
    "series and frames": lambda: [named(b, V) for b, V in PAIRS],
    "triangles": lambda: [(b, mx.vech(V)) for b, V in PAIRS],
    "arrays in a dict": lambda: {"coef": B, "vcov": V},
    "arrays with triangles": lambda: (B, mx.vech(V)),
    "frames": lambda: (
        pd.DataFrame(B, columns=["warm", "hot"]),
        pd.DataFrame(mx.vech(V)),
    ),
    "a frame and lists": lambda: (pd.DataFrame(B, columns=["warm", "hot"]), V.tolist()),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_estimates(form):
    expected = mx.pool(PAIRS, bscov="id")
    fit = mx.pool(FORMS[form](), bscov="id")
    # A shape that is fitted again and again is compiled: see BACKENDS.
    np.testing.assert_allclose(fit.coef, expected.coef, rtol=BACKENDS)
    np.testing.assert_allclose(fit.vcov, expected.vcov, rtol=BACKENDS)
    named_by = form in ("results", "series and frames", "frames", "a frame and lists")
    assert fit.frame.outcome_names == (["warm", "hot"] if named_by else ["b1", "b2"])


def test_labels_of_a_frame_of_coefficients():
    frame = pd.DataFrame(B, index=LABELS)
    assert list(mx.pool((frame, V), bscov="id").index) == LABELS
    other = mx.pool((frame, V), labels=list("abcde"), names=["p", "q"], bscov="id")
    assert list(other.index) == list("abcde") and other.frame.outcome_names == ["p", "q"]


def test_objects_by_label():
    pairs = {label: Reduced(b, V) for label, (b, V) in zip(LABELS, PAIRS, strict=True)}
    assert list(mx.pool(pairs, bscov="id").index) == LABELS


@pytest.mark.parametrize(
    ("last", "sentence"),
    [
        ((pd.Series([1.0, 2.0], ["hot", "warm"]), np.eye(2)), r"'hot', 'warm'.*give all of them"),
        ((pd.Series([1.0, 2.0], ["warm", "hot"]),
          pd.DataFrame(np.eye(2), ["hot", "warm"], ["hot", "warm"])), "bring them into one order"),
        (([1.0, 2.0], np.eye(2)), "has the coefficients None"),
    ],
)  # fmt: skip
def test_names_that_differ(last, sentence):
    with pytest.raises(mx.InputError, match=f"location 5.*{sentence}"):
        mx.pool([*(named(b, V) for b, V in PAIRS), last])


def test_rows_of_data_without_estimates():
    data = DATA.set_axis(LABELS)
    more = pd.concat([data, pd.DataFrame({"x": [0.0, 1.0]}, index=["Rome", "Oslo"])])
    pairs = dict(zip(LABELS, PAIRS, strict=True))
    with pytest.raises(mx.InputError, match=r"row for 'Rome' \(of 2 such rows\)"):
        mx.pool(pairs, data=more)


@pytest.fixture(scope="module")
def stage():
    """A first stage of six cities, in one of which the exposure never changes."""
    rng = np.random.default_rng(3)
    cities = [f"city {i}" for i in range(6)]
    heat = np.where(np.repeat(cities, 80) == "city 2", 20.0, rng.normal(20, 4, 480))
    data = {"city": np.repeat(cities, 80), "heat": heat, "deaths": rng.poisson(15, 480)}
    control = {"backend": "numpy"}
    return mx.first_stage(
        pd.DataFrame(data), "city", "deaths", "heat", "ns(percentiles=[50])", control=control
    )


@pytest.mark.parametrize("rows", ["none", "those of the pooled", "all", "one without a predictor"])
def test_a_first_stage_that_failed_somewhere(stage, rows):
    data = pd.DataFrame({"x": np.arange(6.0)}, index=stage.coef.index)
    if rows == "none":
        data = None
    elif rows == "those of the pooled":
        data = data.drop("city 2")
    elif rows == "one without a predictor":
        data.loc["city 4", "x"] = np.nan
    fit = mx.pool(stage, "~ 1" if data is None else "~ x", data=data, bscov="id")
    pairs = {label: stage[label] for label in fit.index}
    expected = mx.pool(
        pairs,
        "~ 1" if data is None else "~ x",
        data=None if data is None else data.loc[list(pairs)],
        bscov="id",
    )
    np.testing.assert_allclose(fit.coef, expected.coef, rtol=1e-12)
    reasons = dict(fit.dropped.itertuples(index=False))
    assert "is 20 in all its rows" in reasons.pop("city 2")
    assert reasons == ({"city 4": "'x' is missing"} if rows == "one without a predictor" else {})
    assert "is 20 in all its rows" in str(fit.summary())


def test_a_first_stage_and_data_that_lack_each_other(stage):
    data = pd.DataFrame({"x": np.arange(6.0)}, index=stage.coef.index)
    with pytest.raises(mx.InputError, match="no row for location 'city 3'"):
        mx.pool(stage, "~ x", data=data.drop("city 3"))
    with pytest.raises(mx.InputError, match="row for 'Rome'"):
        mx.pool(stage, "~ x", data=pd.concat([data, data.iloc[:1].set_axis(["Rome"])]))
