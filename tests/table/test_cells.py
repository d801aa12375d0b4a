"""Interactions of categories: a cell that no row falls into is the cause that is named."""

import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from mixmeta_jax.table.cells import column_count, crossed_categories


@pytest.fixture
def bcg():
    data = mx.load_dataset("bcg")
    data["acat"] = np.where(data.ablat < 40, "high", "low")
    data["era"] = pd.cut(data.year - 1900, [0, 55, 70, 99], labels=["early", "mid", "late"])
    return data


def table(rows):
    """Two categories and an outcome, one row per pair of letters."""
    n = len(rows)
    return pd.DataFrame(
        {"y": np.linspace(0, 1, n) ** 2, "v": 1.0, "a": [r[0] for r in rows]}
        | {"b": [r[1] for r in rows]}
    )


FULL = ["pu", "pu", "pw", "pw", "qu", "qu", "qw", "qw"]


@pytest.mark.parametrize("formula", ["acat*era", "acat:era", "C(acat)*C(era)", "0 + acat:era"])
def test_an_empty_cell_is_named(bcg, formula):
    """wviechtb/metafor#74; there a column is dropped with a warning."""
    with pytest.raises(mx.InputError, match="acat = 'high' and era = 'early'"):
        mx.mixmeta(f"logor ~ {formula}", S="logorvar", data=bcg)


def test_an_empty_cell_of_random_predictors_is_named():
    data = table(FULL[:6] * 2).assign(study=np.repeat([1, 2, 3], 4))
    with pytest.raises(mx.InputError, match=r"random predictors .* a = 'q' and b = 'w'"):
        mx.mixmeta("y", S="v", data=data, random="~ a*b | study", bscov="diag")


def test_a_full_crossing_is_fitted():
    assert mx.mixmeta("y ~ a*b", S="v", data=table(FULL), method="fixed").frame.p == 4
    with pytest.raises(mx.InputError, match="a = 'q' and b = 'w'"):
        mx.mixmeta("y ~ a*b", S="v", data=table(FULL[:6]), method="fixed")


def test_a_cell_may_be_empty_for_one_outcome():
    data = table(FULL).assign(z=lambda d: d.y.where((d.a != "q") | (d.b != "u")))
    with pytest.raises(mx.InputError, match="outcome 'z' is observed has a = 'q' and b = 'u'"):
        mx.mixmeta("y + z ~ a*b", S=["v", "v"], rho=0.0, data=data, method="fixed")


def test_numbers_and_truth_values_among_categories():
    data = table(FULL[:6]).assign(flag=lambda d: d.b == "w", dose=lambda d: (d.b == "w") * 1)
    for term in ("a*flag", "a*C(dose)"):
        with pytest.raises(mx.InputError, match="empty cell"):
            mx.mixmeta(f"y ~ {term}", S="v", data=data, method="fixed")
    with pytest.raises(mx.InputError, match=r"zero|collinear"):
        mx.mixmeta("y ~ a*dose", S="v", data=data, method="fixed")


def test_many_fits_name_it(bcg):
    with pytest.raises(mx.InputError, match="acat = 'high' and era = 'early'"):
        mx.fit_many(np.ones((2, len(bcg))), bcg.logorvar, formula="~ acat*era", data=bcg)


def test_three_categories():
    data = table(FULL).assign(c=["r", "s"] * 4)
    (cells,) = crossed_categories([("a:b:c", ["a", "b", "c"])], data)
    assert cells.empty(np.ones(8, bool)) is None
    assert cells.empty(np.arange(8) != 5) == "a = 'q' and b = 'u' and c = 's'"
    # A category without any row makes no cell.
    assert cells.empty(np.arange(8) < 4) is None


def test_columns_are_counted_as_they_are_built(bcg):
    widths = {"acat": 2, "era": 3}
    terms = [[], ["acat"], ["era"], ["acat", "era"], ["year"], ["acat", "year"]]
    assert column_count(terms, widths) == 1 + 1 + 2 + 2 + 1 + 1
