"""Nothing is silently read otherwise than meant: each kind of input that once gave a result.

The kinds and their tests are listed in tests/README.md.
"""

import datetime
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from mixmeta_jax.control import LOOSEST
from mixmeta_jax.errors import MESSAGE_LENGTH
from mixmeta_jax.table.positive_definite import ASYMMETRY, INDEFINITE_BELOW

N = 6
NUMPY = {"backend": "numpy"}


@pytest.fixture
def data():
    g = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "y": g.normal(size=N),
            "z": g.normal(size=N),
            "v": g.uniform(0.5, 1, N),
            "x": g.uniform(1, 2, N),
            "study": np.repeat([1, 2, 3], 2),
            "visit": np.tile([0.0, 1.0], 3),
        }
    )


def refusal(call, *arguments, **keywords):
    """The sentence by which a call is refused."""
    with pytest.raises(mx.InputError) as caught:
        call(*arguments, **keywords)
    assert len(str(caught.value)) <= MESSAGE_LENGTH
    return str(caught.value)


# Values that numpy converts to numbers, though they are none.

DAYS = pd.date_range("2001-01-01", periods=N)
NO_NUMBERS = {
    "complex": np.arange(1, N + 1) * (1 + 1j),
    "complex with real values": np.arange(1, N + 1) + 0j,
    "complex objects": np.array([1 + 0j] * N, object),
    "dates": DAYS.to_numpy(),
    "dates with a zone": DAYS.tz_localize("UTC"),
    "date objects": [datetime.date(2001, 1, 1)] * N,
    "timestamps": list(DAYS),
    "durations": pd.to_timedelta(np.arange(1, N + 1), unit="D").to_numpy(),
    "duration objects": [datetime.timedelta(days=1)] * N,
    "periods": pd.period_range("2001", periods=N, freq="Y"),
    "intervals": pd.IntervalIndex.from_breaks(range(N + 1)),
    "masked": np.ma.masked_array(np.ones(N), np.arange(N) == 1),
    "masked nowhere": np.ma.masked_array(np.ones(N)),
    "numbers as text": ["1.5"] * N,
    "empty text": [1.0, ""] + [1.0] * (N - 2),
    "dicts": [1.0, {}] + [1.0] * (N - 2),
}


def column(values):
    return pd.Series(list(values) if isinstance(values, np.ma.MaskedArray) else values)


def matrix(values):
    """One column beside an intercept, as an array."""
    if isinstance(values, np.ma.MaskedArray):
        return np.ma.stack([np.ones(N), values], axis=1)
    own = np.asarray(values)
    kind = own.dtype if own.dtype.kind == "c" else object
    return np.stack([np.ones(N).astype(kind), own.astype(kind)], axis=1)


def twice(values):
    masked = isinstance(values, np.ma.MaskedArray)
    return np.ma.stack([values] * 2) if masked else np.stack([np.asarray(values)] * 2)


ARRAYS = {
    "outcomes": lambda q, d: mx.mixmeta(q, S=d["v"].to_numpy()),
    "S": lambda q, d: mx.mixmeta("y", S=q, data=d),
    "offset": lambda q, d: mx.mixmeta("y", S="v", data=d, offset=q),
    "rho": lambda q, d: mx.mixmeta("y + z", S=["v", "v"], data=d, rho=q),
    "y of a design": lambda q, d: mx.make_design(q, S=d["v"]),
    "X of a design": lambda q, d: mx.make_design(d["y"], X=matrix(q), S=d["v"]),
    "S of a design": lambda q, d: mx.make_design(d["y"], S=q),
    "offset of a design": lambda q, d: mx.make_design(d["y"], S=d["v"], offset=q),
    "y of many": lambda q, d: mx.fit_many(twice(q), d["v"]),
    "S of many": lambda q, d: mx.fit_many(np.ones((2, N)), q),
    "y of a simulation": lambda q, d: mx.mixmeta_sim(q, d["v"], [[1.0]]),
    "S of a simulation": lambda q, d: mx.mixmeta_sim(d["y"], q, [[1.0]]),
    "times": lambda q, d: mx.ContinuousAR1(times=q),
    "triangles": lambda q, d: mx.xpnd(q),
    "standard deviations": lambda q, d: mx.inputcov(matrix(q)),
    "a correlation per row": lambda q, d: mx.inputcov(np.ones((N, 2)), q),
}
COLUMNS = {
    "outcome": lambda d: mx.mixmeta("q", S="v", data=d),
    "S": lambda d: mx.mixmeta("y", S="q", data=d),
    "S of a frame": lambda d: mx.mixmeta("y + z", S=d[["v", "q"]], data=d),
    "offset": lambda d: mx.mixmeta("y", S="v", data=d, offset="q"),
    "variances of visits": lambda d: mx.ar1_blocks(d, "study", "q", 0.5),
    "variances of rows": lambda d: mx.cs_blocks(d, "study", "q", 0.5),
    "times of visits": lambda d: mx.ar1_blocks(d, "study", "v", 0.5, time="q"),
    "events": lambda d: mx.network_contrasts(d, "study", "visit", "q", "v", 0.0),
    "people": lambda d: mx.network_contrasts(d, "study", "visit", "v", "q", 0.0),
    "cases of doses": lambda d: mx.greenland_longnecker(
        d.assign(type="ir", rr=[0.0, 0.1] * 3, se=[0.0, 0.5] * 3),
        "study",
        *["rr", "se", "q", "x", "type"],
    ),
}


SMALL, LARGE = np.linspace(0.3, 0.4, N), np.linspace(3, 4, N)


@pytest.mark.parametrize("place", ARRAYS)
def test_arrays_of_real_numbers_are_taken(place, data):
    for kind in (np.float32, float, object):
        ARRAYS[place](SMALL.astype(kind), data)
    ARRAYS[place](pd.Series(SMALL), data)


@pytest.mark.parametrize("place", COLUMNS)
def test_columns_of_real_numbers_are_taken(place, data):
    values = LARGE if place == "people" else SMALL
    for kind in ("float32", "Float64", object):
        COLUMNS[place](data.assign(q=pd.Series(values).astype(kind)))


@pytest.mark.parametrize("place", ARRAYS)
@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_arrays_that_are_no_real_numbers(kind, place, data):
    refusal(ARRAYS[place], NO_NUMBERS[kind], data)


@pytest.mark.parametrize("place", COLUMNS)
@pytest.mark.parametrize("kind", [k for k in NO_NUMBERS if "masked" not in k])
def test_columns_that_are_no_real_numbers(kind, place, data):
    refusal(COLUMNS[place], data.assign(q=column(NO_NUMBERS[kind])))


@pytest.mark.parametrize("empty", ["", {}, [], (), b"", " "])
@pytest.mark.parametrize("name", ["y", "v"])
def test_what_is_empty_is_not_missing(name, empty, data):
    values = data[name].astype(object)
    values[2] = empty
    sentence = refusal(mx.mixmeta, "y", "v", data.assign(**{name: values}), control=NUMPY)
    assert "row 2" in sentence and "not a number" in sentence
    values[2] = None
    if name == "y":
        fit = mx.mixmeta("y", "v", data.assign(y=values), control=NUMPY)
        assert fit.dropped["row"].tolist() == [2]


@pytest.mark.parametrize("other", ["", "n/a", (), {}, b"1", DAYS[0]])
def test_numbers_with_something_else_are_no_categories(other, data):
    values = data["x"].round().astype(object)
    values[3] = other
    mixed = data.assign(x=values)
    sentence = refusal(mx.mixmeta, "y ~ x", "v", mixed, method="fixed")
    assert "row 3" in sentence and "C(x)" in sentence
    assert "row 3" in refusal(mx.mixmeta, "y ~ z:x", "v", mixed, method="fixed")
    if other != {}:
        names = mx.mixmeta("y ~ C(x)", "v", mixed, method="fixed", control=NUMPY).coef.index
        assert any(str(other) in name for name in names)
    values[3] = None
    assert len(mx.mixmeta("y ~ x", "v", data.assign(x=values), control=NUMPY).coef) == 2


# An outcome that explains itself; see tests/formulas/test_formula_is_data.py for formulas.


@pytest.mark.parametrize(
    "place",
    [
        {"S": "y"},
        {"offset": "y"},
        {"offset": ["y"]},
        {"random": "~ y | study"},
        {"random": "~ 1 | y"},
        {"random": {"study": "~ 0 + y"}},
    ],
)
def test_an_outcome_is_nothing_else(place, data):
    arguments = {"formula": "y ~ x", "S": "v", "data": data, **place}
    assert "explain itself" in refusal(mx.mixmeta, **arguments)


# Matrices that are not what they are said to be.


@pytest.mark.parametrize("by", [2.0, 0.5])
def test_vech_takes_symmetric_matrices(by):
    skew = np.array([np.eye(3), np.eye(3)])
    skew[1, 2, 0] = by * ASYMMETRY
    if by > 1:
        assert "(0, 2) and (2, 0) of matrix 1" in refusal(mx.vech, skew)
    else:
        assert mx.vech(skew).shape == (2, 6)


def test_vech_takes_gaps_on_both_sides():
    gap = np.array([[1.0, np.nan], [np.nan, 1.0]])
    assert np.isnan(mx.vech(gap)[1])
    gap[0, 1] = 0.5
    refusal(mx.vech, gap)


def correlation(least):
    """A matrix of three correlations whose least eigenvalue this is: (1 − ρ)(1 + 2ρ) form."""
    return np.where(np.eye(3, dtype=bool), 1.0, (least - 1) / 2)


@pytest.mark.parametrize("beyond", [2.0, 0.5])
def test_inputcov_takes_correlations_that_variables_can_have(beyond):
    C = correlation(beyond * INDEFINITE_BELOW)
    forms = (C, C[0, 1], np.full(N, C[0, 1]), [C[0, 1]] * 3)
    for form in forms:
        if beyond > 1:
            assert "eigenvalue" in refusal(mx.inputcov, np.ones((N, 3)), form)
        else:
            assert mx.inputcov(np.ones((N, 3)), form).shape == (N, 3, 3)


@pytest.mark.parametrize("sd", [np.inf, -1.0])
def test_inputcov_takes_finite_standard_deviations(sd):
    refusal(mx.inputcov, [[1.0, 2.0], [sd, 1.0]], 0.5)


@pytest.mark.parametrize("times", [[[1, 2], [3, 4]], 3.0, [[1], [2]], [1, np.inf], [1, 1], []])
@pytest.mark.parametrize("structure", [mx.ContinuousAR1, mx.HeterogeneousContinuousAR1])
def test_times_are_one_for_each_effect(structure, times):
    if times == []:
        assert "0 times" in refusal(structure(times=times).check, 2, "study")
    else:
        assert "times" in refusal(structure, times=times)


@pytest.mark.parametrize("rhs", [np.nan, np.inf, "0", None, True, 1j, [np.nan], DAYS[0], {}])
def test_a_hypothesis_is_a_finite_number(rhs, data):
    fit = mx.mixmeta("y ~ x", S="v", data=data, control=NUMPY)
    assert "rhs" in refusal(fit.wald_test, "x", rhs=rhs)


def test_a_hypothesis_names_a_coefficient(data):
    fit = mx.mixmeta("y ~ x", S="v", data=data, control=NUMPY)
    assert "empty text" in refusal(fit.wald_test, "")
    assert "empty text" in refusal(fit.wald_test, ["x", ""])


# Tables for S, networks, two stages.


@pytest.mark.parametrize("build", [mx.ar1_blocks, mx.cs_blocks])
def test_blocks_lose_no_row(build, data):
    data.loc[2, "v"] = np.inf
    assert "row 2" in refusal(build, data, "study", "v", 0.5)
    data.loc[2, "v"] = np.nan
    assert [len(block) for block in build(data, "study", "v", 0.5).values()] == [2, 1, 2]
    lost = data.astype({"study": float})
    lost.loc[4, "study"] = np.nan
    assert "Row 4" in refusal(build, lost, "study", "v", 0.5)
    assert "group and variance are both" in refusal(build, data, "v", "v", 0.5)
    listed = data.assign(study=[[1]] * N)
    assert "no label" in refusal(build, listed, "study", "v", 0.5)


@pytest.mark.parametrize("make", [mx.network_contrasts, mx.long_contrasts])
def test_a_column_of_a_network_is_one_thing(make):
    arms = pd.DataFrame({"s": [1, 1, 2, 2], "t": list("ABAB"), "e": [1, 2, 3, 4], "n": 10})
    assert "events and total are both" in refusal(make, arms, "s", "t", "n", "n", "A")
    assert "study and treatment are both" in refusal(make, arms, "s", "s", "e", "n", "A")
    assert "infinite" in refusal(make, arms.assign(n=np.inf), "s", "t", "e", "n", "A")
    refusal(make, arms, "s", "t", "e", "n", "A", zero_cell=np.inf)
    refusal(make, arms, "s", "t", "e", "n", "A", augment=(1, np.inf))


def test_a_column_of_doses_or_effects_is_one_thing(data):
    doses = data.assign(type="ir")
    said = refusal(mx.greenland_longnecker, doses, "study", "y", "v", "x", "x", "type")
    assert "cases and n are both" in said
    counts = pd.DataFrame({"a": [1, 2], "n": [9, 9]})
    same = {"events": "n", "total": "n", "control_events": "a", "control_total": "n"}
    assert "both column 'n'" in refusal(mx.effect_sizes, "logor", counts, **same)
    shared = {"events": "a", "total": "n", "control_events": "a", "control_total": "n"}
    assert "both column 'a'" in refusal(mx.effect_sizes, "logor", counts, **shared)


PAIRS = [([0.2, 0.1], np.eye(2)), ([0.4, 0.3], np.eye(2)), ([0.3, 0.5], np.eye(2))]


@pytest.mark.parametrize("predictors", ["~ b1", "~ I(b2**2)", "~ x + b1:x"])
def test_a_coefficient_does_not_explain_the_coefficients(predictors):
    locations = pd.DataFrame({"x": [1.0, 2.0, 4.0]})
    said = refusal(mx.pool, PAIRS, predictors, data=locations, bscov="id")
    assert "its own predictors" in said


@pytest.mark.parametrize("predictors", [None, "b1", "b1 ~ b2", 3, ["~ x"]])
def test_predictors_of_a_pool_are_a_right_hand_side(predictors):
    assert "predictors" in refusal(mx.pool, PAIRS, predictors)


@pytest.mark.parametrize(
    "labels", [[[1], [2], [3]], [{}, {}, {}], "abc", [1, 2, np.nan], [1, 2, None], [np.ones(2)] * 3]
)
def test_labels_of_a_pool_are_labels(labels):
    assert "label" in refusal(mx.pool, PAIRS, labels=labels)


@pytest.mark.parametrize("labels", [None, ["a", "b", "c"], [(1, 2), (1, 3), (2, 2)], (3, 1, 2)])
def test_labels_of_a_pool_may_be_tuples(labels):
    fit = mx.pool(PAIRS, labels=labels, bscov="id", control=NUMPY)
    assert fit.index.tolist() == list(range(3) if labels is None else labels)


@pytest.mark.parametrize("option", [{"S": 3}, {"subset": "b1 > 0"}, {"offset": "b1"}, {"date": 1}])
def test_options_of_a_pool(option):
    assert "options" in refusal(mx.pool, PAIRS, **option)


# Studies of many data sets.

SCENARIO = {"y": np.zeros(8), "S": np.ones(8), "Psi": [[0.5]], "coef": [0.0], "control": NUMPY}


def study(scenario=SCENARIO, name="a", **changes):
    return mx.simulation_study({name: scenario}, progress=False, **{"nsim": 6, **changes})


def test_a_study_needs_scenarios():
    for none in ({}, None, [], {"a": None}):
        assert "scenario" in refusal(mx.simulation_study, none)


@pytest.mark.parametrize("truth", [np.nan, np.inf, [np.nan], "0", None, [0.0, 1.0], 1j])
def test_the_truth_of_a_study_is_known(truth):
    assert "coef" in refusal(study, {**SCENARIO, "coef": truth})
    if truth != [0.0, 1.0]:
        estimands = {"tau2": (lambda fits: fits.Psi[:, 0, 0], truth)}
        assert "truth" in refusal(study, {**SCENARIO, "estimands": estimands})


@pytest.mark.parametrize(
    "returned", [lambda f: f.Psi, lambda f: f.Psi[:, 0, 0] * 1j, lambda f: 1.0]
)
def test_an_estimand_is_a_number_for_each_data_set(returned):
    assert "tau2" in refusal(study, {**SCENARIO, "estimands": {"tau2": (returned, 0.5)}})


@pytest.mark.parametrize("level", [0, 1, -0.5, np.nan, None, "0.9", True])
def test_the_level_of_a_study(level):
    assert "conf_level" in refusal(study, conf_level=level)


def test_a_part_of_a_study_counts_once(tmp_path):
    one, two = study(), study(first=6)
    assert mx.join_studies([one, two]).n.tolist() == [12]
    for parts in ([one, one], [one, study(first=3)], [mx.join_studies([one, two]), two]):
        assert "both hold data set" in refusal(mx.join_studies, parts)
    # From files that keep no attributes.
    paths = [tmp_path / "one.csv", tmp_path / "two.csv"]
    for part, path in zip((one, two), paths, strict=True):
        part.to_csv(path)
    read = [pd.read_csv(path, index_col=[0, 1]) for path in paths]
    assert mx.join_studies(read).n.tolist() == [12]
    assert "same figures" in refusal(mx.join_studies, [*read, read[0]])
    # Others have nothing in common.
    assert mx.join_studies([one, study(seed=1), study(name="b")]).n.tolist() == [12, 6]


def test_a_study_has_one_level():
    parts = [study(), study(first=6, conf_level=0.8)]
    assert "0.8 and 0.95" in refusal(mx.join_studies, parts)


def test_a_permutation_must_change_the_predictor(data):
    alone = mx.mixmeta("y", S="v", data=data, control=NUMPY)
    assert "is the same" in refusal(mx.permutation_test, alone, "(Intercept)")
    beside = mx.mixmeta("y ~ x", S="v", data=data, control=NUMPY)
    assert "is the same" in refusal(mx.permutation_test, beside, "(Intercept)")
    # The visits of every study are the same, and studies are exchanged.
    visits = mx.mixmeta("y ~ visit", S="v", data=data, random="~ 1 | study", control=NUMPY)
    assert "is the same" in refusal(mx.permutation_test, visits, "visit")
    assert mx.permutation_test(beside, "x", n=5, progress=False).n_permutations


# Settings.


@pytest.mark.parametrize("value", [0, -1.0, np.nan, np.inf, "1", True, 1j, [1.0]])
@pytest.mark.parametrize("name", ["sd_scale", "sd_df", "concentration", "beta_scale"])
def test_priors_are_positive(name, value):
    assert name in refusal(mx.Priors, **{name: value})
    mx.Priors(**{name: np.float32(2.0)})


@pytest.mark.parametrize("value", [np.inf, np.nan, 0, -1, True, "1e-6", None, 1j, LOOSEST, 1e300])
def test_the_gradient_tolerance_is_positive_and_small(value):
    assert "gradient_tol" in refusal(mx.Control, gradient_tol=value)
    assert mx.Control(gradient_tol=np.nextafter(LOOSEST, 0)).gradient_tol < LOOSEST


@pytest.mark.parametrize("value", [True, np.True_])
def test_truth_values_are_no_counts_or_seeds(value, data):
    fit = mx.mixmeta("y ~ x", S="v", data=data, control=NUMPY)
    sim = (data["y"], data["v"], [[1.0]])
    calls = [
        *(lambda name=name: mx.Control(**{name: value}) for name in ("max_iter", "n_starts")),
        *(lambda k=k: fit.simulate(**{k: value}) for k in ("nsim", "seed", "first")),
        *(lambda k=k: mx.mixmeta_sim(*sim, **{k: value}) for k in ("nsim", "seed", "first")),
        *(lambda k=k: study(**{k: value}) for k in ("nsim", "seed", "first")),
        *(lambda k=k: mx.permutation_test(fit, "x", **{k: value}) for k in ("n", "seed", "first")),
        *(
            lambda k=k, kind=kind: mx.bootstrap(fit, kind=kind, **{k: value})
            for k in ("n", "seed", "first")
            for kind in ("parametric", "groups")
        ),
        lambda: mx.fit_many(np.ones((2, N)), data["v"], batch_size=value),
    ]
    for call in calls:
        assert "whole number" in refusal(call)


# Designs, from numbers that are there to be looked at.


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"y": [np.inf, *range(5)]}, "infinite in row 0"),
        ({"y": [np.nan] * N}, "every outcome is missing"),
        ({"X": np.ones((N, 0))}, "at least one column"),
        ({"X": np.vander(range(N), N + 1) + 0.0}, "fewer than its 7 coefficients"),
        ({"X": np.ones((N, 2))}, "collinear"),
        ({"X": np.c_[np.ones(N), np.zeros(N)]}, "zero in every row"),
        ({"X": np.c_[np.ones(N), [np.inf, *range(5)]]}, "inf in row 0"),
        ({"X": np.c_[np.ones(N), [np.nan, *range(5)]]}, "nan in row 0"),
        ({"S": -np.ones(N)}, "negative variance"),
        ({"S": np.full(N, np.inf)}, "infinite"),
    ],
)
def test_a_design_is_judged_where_it_is_concrete(changes, said):
    arguments = {"y": np.arange(N) + 0.0, "S": np.ones(N), **changes}
    assert said in refusal(mx.make_design, **arguments)


# Transforms of one's own: the same of each row, in any order.

TRANSFORMS = {
    "sorted": lambda x: np.sort(x),
    "reversed": lambda x: x.to_numpy()[::-1],
    "rolled": lambda x: np.roll(x, 1),
    "lagged": lambda x: x.shift().fillna(0),
    "drawn": lambda x: np.random.default_rng().normal(size=len(x)),
    "drawn from one seed": lambda x: np.random.default_rng(0).normal(size=len(x)),
    "sampled": lambda x: x.sample(frac=1, random_state=1).to_numpy(),
    "numbered": lambda x: np.arange(len(x)) + 0.0,
}
PURE = {
    "ranked": lambda x: x.rank(),
    "centred": lambda x: x - x.mean(),
    "two columns": lambda x: np.column_stack([x, x**2]),
    "of text": lambda x: x.gt(1.5).map({True: "high", False: "low"}),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_depends_on_no_order(name, data):
    mx.register_transform("of_ones_own", TRANSFORMS[name])
    assert "order of the rows" in refusal(mx.mixmeta, "y ~ of_ones_own(x)", "v", data)


@pytest.mark.parametrize("name", PURE)
def test_a_pure_transform_is_taken(name, data):
    mx.register_transform("of_ones_own", PURE[name])
    fit = mx.mixmeta("y ~ of_ones_own(x)", "v", data, method="fixed", control=NUMPY)
    assert len(fit.coef) == 2 + (name == "two columns")


# Numbers of every type are numbers, and nothing else is.


@pytest.mark.parametrize("kind", [Fraction, Decimal, "mixed"])
def test_numbers_held_as_objects_are_no_categories(kind, data):
    """Fractions, and numbers of several types side by side, were one category each."""
    texts = ["0.5", "1.5", "2", "3.25", "4", "1"]
    kinds = [Fraction, Decimal, float] * 2 if kind == "mixed" else [kind] * N
    held = pd.Series([of(text) for of, text in zip(kinds, texts, strict=True)], dtype=object)
    expected = mx.mixmeta("y ~ q", "v", data.assign(q=np.array(texts, float)), control=NUMPY)
    found = mx.mixmeta("y ~ q", "v", data.assign(q=held), control=NUMPY)
    pd.testing.assert_series_equal(found.coef, expected.coef)


def test_complex_numbers_held_as_objects_are_no_categories(data):
    held = pd.Series([1j, 2.0, 3.0] * 2, dtype=object)
    assert "1j in row 0" in refusal(mx.mixmeta, "y ~ q", "v", data.assign(q=held))


@pytest.mark.parametrize("value", [[1], {}, Decimal("sNaN"), "\ud800", np.zeros(1)])
def test_what_is_no_label_is_no_category_and_no_group(value, data):
    held = pd.Series([value, "a", "b"] * 2, dtype=object)
    for formula, random in (("y ~ q", None), ("y", "~ 1 | q")):
        said = refusal(mx.mixmeta, formula, "v", data.assign(q=held), random)
        assert "in row 0" in said and "no label" in said


def test_truth_values_are_no_figures_of_effect_sizes():
    counts = pd.DataFrame({"events": [3, 5], "total": [20, 30]})
    names = {"events": "events", "total": "total"}
    assert len(mx.effect_sizes("logit", counts, **names)) == 2
    said = refusal(mx.effect_sizes, "logit", counts.assign(events=[True, False]), **names)
    assert "truth values" in said


@pytest.mark.parametrize(
    ("mean", "sd", "told"),
    [(1e200, 1.0, "mean is 1e+200, of which the square"), (1.0, 0.0, "standard deviations are 0")],
)
def test_effects_that_are_not_finite_have_the_right_reason(mean, sd, told):
    figures = {"mean": mean, "sd": sd, "n": 9, "control_mean": 2.0, "control_sd": sd}
    table = pd.DataFrame([figures | {"control_n": 9}])
    assert told in refusal(mx.effect_sizes, "smd", table, **{name: name for name in table.columns})


def test_arms_of_a_picture_are_not_left_out():
    arms = pd.DataFrame({"study": [1, 1, 2], "arm": ["a", "b", None]})
    assert "Row 2 has no value in column 'arm'" in refusal(mx.plots.network, arms, "study", "arm")


@pytest.mark.parametrize(
    ("at", "told"),
    [
        ({"x": [1.0, 2.0]}, "at: 'x' must be a finite number"),
        ({"x": "a"}, "at: 'x' must be a finite number"),
        ({"arm": "c"}, "at: 'arm' must be one of"),
        ({"arm": ["a"]}, "at: 'arm' must be one of"),
    ],
)
def test_predictors_are_held_at_one_value(at, told, data):
    fit = mx.mixmeta("y ~ x + z + arm", "v", data.assign(arm=list("ababab")), control=NUMPY)
    for call in (fit.plot.bubble, fit.plot.response):
        own = {"reference": 0.0} if call.__name__ == "response" else {}
        assert told in refusal(call, "z", at=at, **own)
    if "x" in at:
        assert told in refusal(fit.plot.orchard, "arm", at=at)
        assert told in refusal(fit.means, "arm", at=at)
