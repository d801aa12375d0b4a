"""What users of R and of other Python programs type by habit works, or leads to what does."""

import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx


@pytest.fixture(scope="module")
def bcg():
    return mx.load_dataset("bcg")


@pytest.fixture(scope="module")
def fit(bcg):
    return mx.mixmeta("logor ~ ablat", S="logorvar", data=bcg)


@pytest.mark.parametrize("method", ["REML", "ML", "Fixed", "DL"])
def test_methods_in_capitals(bcg, method):
    ours = mx.mixmeta("logor", S="logorvar", data=bcg, method=method)
    same = mx.mixmeta("logor", S="logorvar", data=bcg, method=method.lower())
    assert ours.method == same.method == method.lower()
    assert ours.coef.equals(same.coef)
    y = bcg["logor"].to_numpy()[None]
    many = mx.fit_many(y, bcg["logorvar"], method=method, progress=False)
    assert many.method == method.lower()


def test_random_effects_in_the_formula_are_shown_their_place(bcg):
    with pytest.raises(mx.InputError, match=r"give them as random='~ 1 \| trial'"):
        mx.mixmeta("logor ~ ablat + (1 | trial)", S="logorvar", data=bcg)
    with pytest.raises(mx.InputError, match="has several parts"):
        mx.mixmeta("logor ~ ablat | trial", S="logorvar", data=bcg)


def test_knots_by_the_c_of_r(bcg):
    ours = mx.mixmeta("logor ~ ns(ablat, knots=c(20, 40))", S="logorvar", data=bcg)
    same = mx.mixmeta("logor ~ ns(ablat, knots=[20, 40])", S="logorvar", data=bcg)
    np.testing.assert_array_equal(ours.coef, same.coef)
    new = pd.DataFrame({"ablat": [15.0, 50.0]})
    pd.testing.assert_frame_equal(ours.predict(new), same.predict(new))


@pytest.mark.parametrize("S", ["se^2", "se**2", "exp(se)"])
def test_a_formula_for_s_is_told_to_be_a_column(bcg, S):
    with pytest.raises(mx.InputError, match="not a formula: compute the column first"):
        mx.mixmeta("logor", S=S, data=bcg.assign(se=np.sqrt(bcg["logorvar"])))


def test_ordered_categories_are_told_to_be_treatment_coded(bcg):
    data = bcg.assign(alloc=pd.Categorical(bcg["alloc"], ordered=True))
    note = "Ordered categories (alloc) are coded by treatment contrasts"
    assert note in str(mx.mixmeta("logor ~ alloc", S="logorvar", data=data).summary())
    polynomial = mx.mixmeta("logor ~ C(alloc, contr.poly)", S="logorvar", data=data)
    assert note not in str(polynomial.summary())
    assert note not in str(mx.mixmeta("logor ~ alloc", S="logorvar", data=bcg).summary())


def test_standard_deviations_of_one_study():
    expected = np.outer([0.1, 0.5, 0.3], [0.1, 0.5, 0.3]) * (0.7 + 0.3 * np.eye(3))
    np.testing.assert_allclose(mx.inputcov([0.1, 0.5, 0.3], 0.7), expected, rtol=1e-15)


def test_draws_without_a_seed_are_new_and_with_one_the_same(fit):
    assert not np.array_equal(fit.simulate(), fit.simulate())
    np.testing.assert_array_equal(fit.simulate(seed=3), fit.simulate(seed=3))
    np.testing.assert_array_equal(fit.simulate(3, seed=3)[2:], fit.simulate(seed=3, first=2))
    with pytest.raises(mx.InputError, match="give seed too"):
        fit.simulate(first=2)


def test_a_fit_shows_its_coefficients(fit, bcg):
    lines = repr(fit).splitlines()
    assert lines[0].startswith("<Univariate random-effects meta-regression: logor ~ ablat")
    assert [line.split()[0] for line in lines[1:]] == ["(Intercept)", "ablat"]
    assert lines[1].split()[1:] == ["0.301", "(0.2146)"]
    assert fit._repr_html_() == fit.summary()._repr_html_()


@pytest.mark.parametrize(("groups", "lines"), [(20, 21), (21, 22), (25, 22)])
def test_many_coefficients_are_cut_short(groups, lines):
    label = [f"g{i // 2:02}" for i in range(2 * groups)]
    data = pd.DataFrame({"y": np.arange(2.0 * groups) % 7, "v": 1.0, "g": label})
    shown = repr(mx.mixmeta("y ~ 0 + g", S="v", data=data, method="fixed")).splitlines()
    assert len(shown) == lines
    assert (shown[-1] == f"  and {groups - 20} more") == (groups > 20)
