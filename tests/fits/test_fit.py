"""The result of a fit: every number against the full matrices of tests/dense_model.py."""

import jax
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mixmeta_jax as mx
from mixmeta_jax.errors import InputError
from mixmeta_jax.status import Status
from tests import dense_model

EXACT = 1e-8  # two orders of summation, S with condition numbers up to 1e5

BERKEY_S = ["var_PD", "cov_PD_AL", "var_AL"]
SMOKING_S = ["SBB", "SBC", "SBD", "SCC", "SCD", "SDD"]


@pytest.fixture(scope="module")
def bcg():
    return mx.load_dataset("bcg")


@pytest.fixture(scope="module")
def school():
    return mx.load_dataset("school")


@pytest.fixture(scope="module")
def berkey():
    return mx.load_dataset("berkey98")


@pytest.fixture(scope="module")
def univariate(bcg):
    return mx.mixmeta("logor ~ ablat", S="logorvar", data=bcg)


@pytest.fixture(scope="module")
def bivariate(berkey):
    return mx.mixmeta("PD + AL ~ pubyear", S=BERKEY_S, data=berkey)


@pytest.fixture(scope="module")
def incomplete():
    return mx.mixmeta("yB + yC + yD", S=SMOKING_S, data=mx.load_dataset("smoking"))


@pytest.fixture(scope="module")
def nested(school):
    return mx.mixmeta("effect", S="var", data=school, random="~ 1 | district/study")


@pytest.fixture(scope="module")
def slopes(school):
    data = school.assign(decade=(school["year"] - 1990) / 10)
    return mx.mixmeta(
        "effect ~ decade",
        S="var",
        data=data,
        random=["~ decade | district", "~ 1 | study"],
        bscov={"district": "diag"},
        method="ml",
    )


FITS = ["univariate", "bivariate", "incomplete", "nested", "slopes"]


@pytest.fixture
def fit(request):
    return request.getfixturevalue(request.param)


every_fit = pytest.mark.parametrize("fit", FITS, indirect=True)


@every_fit
def test_coefficients_and_likelihood(fit):
    beta, V, loglik = dense_model.gls(fit)
    np.testing.assert_allclose(fit.coef, beta, rtol=EXACT)
    np.testing.assert_allclose(fit.vcov, V, rtol=EXACT)
    assert fit.loglik == pytest.approx(loglik[fit.method], rel=EXACT)


@every_fit
def test_names_agree(fit):
    assert list(fit.vcov.index) == list(fit.vcov.columns) == list(fit.coef.index)
    levels = fit.Psi.values() if isinstance(fit.Psi, dict) else [fit.Psi]
    for number, Psi in enumerate(levels):
        assert list(Psi.index) == list(Psi.columns) == fit.frame.random_names(number)


@every_fit
def test_q_and_i2(fit):
    Q, counts = dense_model.heterogeneity(fit)
    p, k = fit.frame.p, fit.frame.k
    df = counts - np.append(p * k, np.full(k, p))
    table = fit.qtest()
    assert list(table.index) == ["overall", *fit.frame.outcome_names]
    assert list(table.columns) == ["Q", "df", "pvalue", "I2"]
    np.testing.assert_allclose(table["Q"], Q, rtol=EXACT)
    np.testing.assert_array_equal(table["df"], df)
    np.testing.assert_allclose(table["I2"], 100 * np.maximum(0, (Q - df) / Q), rtol=EXACT)
    np.testing.assert_allclose(table["pvalue"], stats.chi2.sf(Q, df), rtol=1e-6)


@every_fit
def test_blups_of_every_level(fit):
    for depth in range(fit.n_levels + 1):
        values, random, paper, exact = dense_model.blup(fit, depth)
        table, covariance = fit.blup(level=depth, se=True, pi=True, vcov=True)
        assert_statistic(fit, table, "blup", values)
        np.testing.assert_allclose(covariance, paper, rtol=EXACT, atol=EXACT * paper.max())
        se = np.sqrt(np.diagonal(paper, axis1=1, axis2=2))
        assert_statistic(fit, table, "se", se)
        assert_statistic(fit, table, "pi_lower", values - stats.norm.ppf(0.975) * se)
        covariance = fit.blup(level=depth, se_method="exact", vcov=True)[1]
        np.testing.assert_allclose(covariance, exact, rtol=EXACT, atol=EXACT * paper.max())
        residual = fit.blup(level=depth, type="residual")
        np.testing.assert_allclose(residual.to_numpy(), random, rtol=EXACT, atol=EXACT)


def assert_statistic(fit, table, name, values):
    columns = table[[name]] if fit.frame.k == 1 else table.xs(name, axis=1, level=1)
    np.testing.assert_allclose(columns.to_numpy(), values, rtol=EXACT, atol=EXACT)


@every_fit
def test_predictions_of_the_units(fit):
    frame, k = fit.frame, fit.frame.k
    X = np.kron(frame.X, np.eye(k))
    V = X @ fit.vcov.to_numpy() @ X.T
    se = np.sqrt(np.diag(V)).reshape(frame.n, k)
    table, covariance = fit.predict(se=True, ci=True, pi=True, vcov=True, conf_level=0.9)
    fitted = (X @ fit.coef.to_numpy()).reshape(frame.n, k)
    assert_statistic(fit, table, "fit", fitted)
    assert_statistic(fit, table, "se", se)
    assert_statistic(fit, table, "ci_upper", fitted + 1.6448536269514722 * se)
    between = np.diag(dense_model.levels_covariance(fit)).reshape(frame.n, k)
    wide = np.sqrt(se**2 + between)
    assert_statistic(fit, table, "pi_lower", fitted - 1.6448536269514722 * wide)
    assert covariance.shape == (frame.n, k, k)
    np.testing.assert_allclose(np.diagonal(covariance, axis1=1, axis2=2), se**2, rtol=EXACT)
    np.testing.assert_allclose(fit.fitted.to_numpy().reshape(fitted.shape), fitted, rtol=EXACT)


def test_level_of_the_prediction_interval(nested):
    def width(level):
        row = nested.predict(pi=True, level=level).iloc[0]
        return ((row["pi_upper"] - row["pi_lower"]) / 2 / stats.norm.ppf(0.975)) ** 2

    V = nested.vcov.iloc[0, 0]
    district, study = (Psi.iloc[0, 0] for Psi in nested.Psi.values())
    assert width(0) == pytest.approx(V, rel=EXACT)
    assert width("district") == width(1) == pytest.approx(V + district, rel=EXACT)
    assert width(None) == width("study") == pytest.approx(V + district + study, rel=EXACT)


def test_columns_of_one_outcome(univariate):
    assert list(univariate.predict().columns) == ["fit"]
    table = univariate.predict(se=True, ci=True, pi=True)
    assert list(table) == ["fit", "se", "ci_lower", "ci_upper", "pi_lower", "pi_upper"]
    assert list(univariate.blup()) == ["blup"]
    assert list(univariate.blup(se=True, pi=True)) == ["blup", "se", "pi_lower", "pi_upper"]


def test_columns_of_two_outcomes(bivariate):
    assert list(bivariate.predict()) == list(bivariate.blup()) == ["PD", "AL"]
    assert list(bivariate.predict(se=True)) == [
        ("PD", "fit"),
        ("PD", "se"),
        ("AL", "fit"),
        ("AL", "se"),
    ]
    assert list(bivariate.blup(se=True)["AL"]) == ["blup", "se"]


def test_new_data(univariate):
    newdata = pd.DataFrame({"ablat": [0.0, 33.0]}, index=["equator", "tropics"])
    table = univariate.predict(newdata, se=True, pi=True)
    assert list(table.index) == ["equator", "tropics"]
    rows = np.array([[1.0, 0.0], [1.0, 33.0]])
    variance = np.diag(rows @ univariate.vcov.to_numpy() @ rows.T)
    np.testing.assert_allclose(table["fit"], rows @ univariate.coef.to_numpy(), rtol=EXACT)
    np.testing.assert_allclose(table["se"] ** 2, variance, rtol=EXACT)
    half = (table["pi_upper"] - table["pi_lower"]) / 2 / stats.norm.ppf(0.975)
    np.testing.assert_allclose(half**2, variance + univariate.Psi.iloc[0, 0], rtol=EXACT)


def test_new_data_needs_no_groups_for_prediction_intervals(slopes):
    newdata = pd.DataFrame({"decade": [0.0, 2.0]})
    table = slopes.predict(newdata, pi=True)
    rows = np.array([[1.0, 0.0], [1.0, 2.0]])
    V, district, study = slopes.vcov, slopes.Psi["district"], slopes.Psi["study"].iloc[0, 0]
    variance = np.diag(rows @ (V.to_numpy() + district.to_numpy()) @ rows.T) + study
    half = (table["pi_upper"] - table["pi_lower"]) / 2 / stats.norm.ppf(0.975)
    np.testing.assert_allclose(half**2, variance, rtol=EXACT)


def test_contrast_with_a_reference(univariate):
    newdata = pd.DataFrame({"ablat": [0.0, 33.0]}, index=["equator", "tropics"])
    table = univariate.predict(newdata, se=True, pi=True, reference={"ablat": 0.0})
    np.testing.assert_array_equal(table.loc["equator"], 0.0)
    slope, variance = univariate.coef["ablat"], univariate.vcov.loc["ablat", "ablat"]
    assert table.loc["tropics", "fit"] == pytest.approx(33 * slope, rel=EXACT)
    assert table.loc["tropics", "se"] == pytest.approx(33 * variance**0.5, rel=EXACT)
    by_label = univariate.predict(newdata, se=True, pi=True, reference="equator")
    pd.testing.assert_frame_equal(table, by_label)
    by_row = univariate.predict(newdata, se=True, pi=True, reference=newdata.iloc[[0]])
    pd.testing.assert_frame_equal(table, by_row)


def test_reference_that_is_not_one_row(univariate):
    newdata = pd.DataFrame({"ablat": [0.0, 33.0]})
    with pytest.raises(InputError, match="not in the index"):
        univariate.predict(newdata, reference="pole")
    with pytest.raises(InputError, match="2 rows"):
        univariate.predict(newdata, reference=newdata)
    twice = newdata.set_axis(["a", "a"])
    with pytest.raises(InputError, match="more than once"):
        univariate.predict(twice, reference="a")


def test_reference_in_an_index_of_several_levels(univariate, bcg):
    newdata = bcg.set_index(["author", "year"])
    table = univariate.predict(newdata, se=True, reference=("Aronson", 1948))
    np.testing.assert_array_equal(table.loc[("Aronson", 1948)], 0.0)


def test_missing_predictor_gives_no_prediction(univariate):
    newdata = pd.DataFrame({"ablat": [10.0, np.nan]})
    table = univariate.predict(newdata, se=True, pi=True)
    assert table.iloc[0].notna().all()
    assert table.iloc[1].isna().all()


def test_offset_by_a_list_of_columns(bcg, berkey):
    data = bcg.assign(o=np.arange(1, 14) / 10)
    one = mx.mixmeta("logor ~ ablat", S="logorvar", data=data, offset="o")
    new = data.iloc[:2]
    listed = one.update(offset=["o"])
    pd.testing.assert_frame_equal(listed.predict(new), one.predict(new))
    pd.testing.assert_frame_equal(listed.blup(newdata=new, S="logorvar"), one.blup().iloc[:2])

    moved = berkey.assign(PD=berkey["PD"] + 1, AL=berkey["AL"] + 2, one=1.0, two=2.0)
    plain = mx.mixmeta("PD + AL ~ pubyear", S=BERKEY_S, data=berkey)
    fit = mx.mixmeta("PD + AL ~ pubyear", S=BERKEY_S, data=moved, offset=["one", "two"])
    np.testing.assert_allclose(fit.predict(moved), plain.predict(berkey) + [1, 2], rtol=EXACT)
    again = fit.blup(newdata=moved, S=BERKEY_S)
    np.testing.assert_allclose(again, plain.blup() + [1, 2], rtol=EXACT)
    with pytest.raises(InputError, match=r"'two'.*named in offset"):
        fit.predict(moved.drop(columns="two"))


def test_outputs_have_the_index_of_the_data(bcg):
    data = bcg.set_index("author").iloc[::-1]
    fit = mx.mixmeta("logor ~ ablat", S="logorvar", data=data)
    for output in (fit.fitted, fit.residuals, fit.predict(), fit.blup()):
        assert list(output.index) == list(data.index)
    np.testing.assert_allclose(fit.fitted + fit.residuals, data["logor"], rtol=EXACT)


def test_offset_comes_back(bcg):
    data = bcg.assign(shift=np.arange(1, 14) / 10)
    plain = mx.mixmeta("logor ~ ablat", S="logorvar", data=data.assign(logor=bcg["logor"] - 0.3))
    moved = mx.mixmeta("logor ~ ablat", S="logorvar", data=data.assign(o=0.3), offset="o")
    np.testing.assert_allclose(plain.coef, moved.coef, rtol=EXACT)
    np.testing.assert_allclose(plain.fitted + 0.3, moved.fitted, rtol=EXACT)
    np.testing.assert_allclose(plain.blup()["blup"] + 0.3, moved.blup()["blup"], rtol=EXACT)
    newdata = pd.DataFrame({"ablat": [10.0], "o": [5.0]})
    with_offset = moved.predict(newdata).iloc[0, 0]
    assert with_offset == pytest.approx(plain.predict(newdata).iloc[0, 0] + 5, rel=EXACT)
    without = moved.predict(newdata[["ablat"]]).iloc[0, 0]
    assert without == pytest.approx(with_offset - 5, rel=EXACT)
    # model.md, section 6: R mixmeta gives 163.16 here.
    shifted = mx.mixmeta("logor", S="logorvar", data=data, offset="shift", method="fixed")
    assert shifted.qtest().loc["overall", "Q"] == pytest.approx(114.20, abs=0.005)


def test_excluded_rows_are_padded(bcg):
    data = bcg.copy()
    data.loc[[2, 5], "ablat"] = np.nan
    omit = mx.mixmeta("logor ~ ablat", S="logorvar", data=data)
    exclude = omit.update(na_action="exclude")
    assert len(omit.fitted) == 11
    for output in (exclude.fitted, exclude.predict(se=True), exclude.blup()):
        assert list(output.index) == list(data.index)
        missing = output.isna() if isinstance(output, pd.Series) else output.isna().all(axis=1)
        assert list(output.index[missing]) == [2, 5]
    table, covariance = exclude.predict(vcov=True)
    assert covariance.shape == (13, 1, 1)
    assert np.isnan(covariance[[2, 5]]).all()
    pd.testing.assert_frame_equal(exclude.blup().dropna(), omit.blup())


def test_fitted_where_an_outcome_is_missing(incomplete):
    missing = incomplete.frame.y != incomplete.frame.y
    assert missing.any()
    assert np.isfinite(incomplete.fitted.to_numpy()).all()
    np.testing.assert_array_equal(incomplete.residuals.isna().to_numpy(), missing)
    assert np.isfinite(incomplete.blup(se=True).to_numpy()).all()


def test_new_groups_are_predicted_as_if_they_were_in_the_data(nested, school):
    seen = school[school["district"] == 86]
    again = nested.blup(newdata=seen, S="var", se=True, se_method="exact", level=1)
    there = nested.blup(se=True, se_method="exact", level=1)[school["district"] == 86]
    pd.testing.assert_frame_equal(again, there, rtol=EXACT)


def test_new_group_with_a_missing_outcome(incomplete):
    data = mx.load_dataset("smoking")
    row = data.iloc[[1]].assign(yC=np.nan, yD=np.nan)
    new = incomplete.blup(newdata=row, S=SMOKING_S).to_numpy()[0]
    beta, Psi = incomplete.coef.to_numpy(), incomplete.Psi.to_numpy()
    slope = Psi[:, 0] / (Psi[0, 0] + row["SBB"].iloc[0])
    np.testing.assert_allclose(new, beta + slope * (row["yB"].iloc[0] - beta[0]), rtol=EXACT)


def test_new_groups_of_a_fit_with_rho(berkey):
    fit = mx.mixmeta("PD + AL ~ pubyear", S=["var_PD", "var_AL"], rho=0.4, data=berkey)
    covariance = 0.4 * np.sqrt(berkey["var_PD"] * berkey["var_AL"])
    completed = berkey.assign(cov_PD_AL=covariance)
    for S in (["var_PD", "var_AL"], BERKEY_S):
        again = fit.blup(newdata=completed, S=S)
        np.testing.assert_allclose(again, fit.blup(), rtol=EXACT)
    by_row = fit.update(rho=[0.4] * 5)
    np.testing.assert_allclose(by_row.blup(newdata=completed, S=BERKEY_S), fit.blup(), rtol=EXACT)
    with pytest.raises(InputError, match="rho by row"):
        by_row.blup(newdata=completed, S=["var_PD", "var_AL"])


def test_new_groups_with_blocks(school):
    S = {label: np.diag(rows["var"]) for label, rows in school.groupby("district")}
    fit = mx.mixmeta("effect", S=S, data=school, random="~ 1 | district")
    new = school[school["district"].isin([11, 86])].iloc[::-1]
    blocks = {label: np.diag(rows["var"]) for label, rows in new.groupby("district")}
    again = fit.blup(newdata=new, S=blocks, se=True)
    pd.testing.assert_frame_equal(again, fit.blup(se=True).loc[new.index], rtol=EXACT)


@pytest.mark.parametrize(
    ("changes", "S", "message"),
    [
        ({"effect": [0.1, 0.2]}, None, "needs S"),
        ({"district": [1.0, np.nan]}, "var", "no group in row"),
        ({"var": [0.1, -0.1]}, "var", "negative variance"),
    ],
)
def test_new_groups_that_cannot_be_predicted(nested, changes, S, message):
    newdata = pd.DataFrame(
        {"effect": [0.1, 0.2], "var": 0.1, "district": [1, 1], "study": [1, 2], **changes}
    )
    with pytest.raises(InputError, match=message):
        nested.blup(newdata=newdata, S=S)


def test_new_groups_need_their_predictors_and_offset(bcg):
    fit = mx.mixmeta("logor ~ ablat", S="logorvar", data=bcg.assign(o=0.1), offset="o")
    with pytest.raises(InputError, match="no predictor in row 2"):
        fit.blup(newdata=bcg.assign(o=0.1, ablat=bcg["ablat"].where(bcg.index != 2)), S="logorvar")
    with pytest.raises(InputError, match="named in offset"):
        fit.blup(newdata=bcg, S="logorvar")
    by_position = fit.update(offset=np.full(13, 0.1))
    with pytest.raises(InputError, match="column name"):
        by_position.blup(newdata=bcg, S="logorvar")


def test_random_effects(nested):
    inner = nested.ranef()
    assert list(inner.index.names) == ["district", "study"]
    assert inner.shape == (56, 1)
    outer = nested.ranef("district")
    assert list(outer.index) == list(nested.frame.levels[0].labels)
    district = outer.iloc[:, 0].loc[list(inner.index.get_level_values(0))].to_numpy()
    total = nested.blup(type="residual")["blup"]
    np.testing.assert_allclose(district + inner.iloc[:, 0], total, rtol=EXACT)
    assert list(nested.ranef(1, se=True)) == ["ranef", "se"]


def test_random_effects_of_rows_with_several_labels(univariate, bcg):
    labelled = bcg.set_index(["author", "year"])
    table = mx.mixmeta("logor ~ ablat", S="logorvar", data=labelled).ranef()
    assert list(table.index) == list(labelled.index)
    np.testing.assert_array_equal(table, univariate.ranef())


def test_random_effects_of_several_outcomes(bivariate):
    table = bivariate.ranef(se=True)
    assert list(table) == [("PD", "ranef"), ("PD", "se"), ("AL", "ranef"), ("AL", "se")]
    random = bivariate.blup(type="residual")
    np.testing.assert_allclose(table.xs("ranef", axis=1, level=1), random, rtol=EXACT)


def test_fixed_effects_have_no_random_part(univariate):
    fit = univariate.update(method="fixed")
    assert fit.Psi is None
    assert fit.bscov is None
    assert fit.df.random == 0
    assert fit.status is Status.CONVERGED
    np.testing.assert_allclose(fit.blup()["blup"], fit.fitted, rtol=EXACT)
    with pytest.raises(InputError, match="no"):
        fit.ranef()


def test_moment_fits_have_no_likelihood(univariate):
    fit = univariate.update(method="mm")
    assert np.isnan([fit.loglik, fit.aic, fit.bic, fit.aicc]).all()
    assert fit.converged
    assert np.isfinite(fit.blup(se=True).to_numpy()).all()


@pytest.mark.parametrize("method", ["vc", "pm"])
def test_moment_fits_stop_at_max_iter(univariate, method):
    fit = univariate.update(method=method, control={"max_iter": 1})
    assert fit.status is Status.MAX_ITER
    assert fit.n_iter == 1


def test_counts_and_criteria(bivariate):
    df = bivariate.df
    assert (df.nall, df.nobs, df.fixed, df.random) == (10, 6, 4, 3)
    assert bivariate.aic == pytest.approx(-2 * bivariate.loglik + 14, rel=EXACT)
    assert bivariate.bic == pytest.approx(-2 * bivariate.loglik + 7 * np.log(6), rel=EXACT)
    assert bivariate.bscov == "unstr"


def test_intervals(bivariate):
    table = bivariate.confint(0.9)
    se = np.sqrt(np.diag(bivariate.vcov))
    np.testing.assert_allclose(table["upper"], bivariate.coef + 1.6448536269514722 * se, rtol=EXACT)
    goldstein = bivariate.confint(0.9, simultaneous="goldstein")
    half = np.sqrt(stats.chi2.ppf(0.9, 4)) * se
    np.testing.assert_allclose(goldstein["lower"], bivariate.coef - half, rtol=EXACT)
    assert list(table) == list(goldstein) == ["estimate", "lower", "upper"]


def test_wald_tests_by_name_expression_and_matrix(bivariate):
    by_expression = bivariate.wald_test("pubyear")
    by_name = bivariate.wald_test(["PD.pubyear", "AL.pubyear"])
    by_matrix = bivariate.wald_test(np.eye(4)[2:])
    beta, V = bivariate.coef.to_numpy()[2:], bivariate.vcov.to_numpy()[2:, 2:]
    by_array = bivariate.wald_test(np.array(["PD.pubyear", "AL.pubyear"]))
    by_column = bivariate.wald_test(
        pd.DataFrame(np.eye(2)[::-1], columns=["AL.pubyear", "PD.pubyear"])
    )
    for test in (by_expression, by_name, by_matrix, by_array, by_column):
        assert test.statistic == pytest.approx(beta @ np.linalg.solve(V, beta), rel=EXACT)
        assert test.df == 2
    shifted = bivariate.wald_test("PD.pubyear", rhs=bivariate.coef["PD.pubyear"])
    assert shifted.pvalue == 1
    assert "PD.pubyear = " in str(shifted)


def test_wald_test_prefers_the_exact_name(bcg):
    fit = mx.mixmeta("logor ~ ablat + I(ablat**2)", S="logorvar", data=bcg)
    assert fit.wald_test("ablat").df == 1
    assert fit.wald_test("abl").df == 2


@pytest.mark.parametrize(
    ("terms", "rhs", "message"),
    [
        ("nothing", 0, "matches no coefficient"),
        ("[", 0, "regular expression"),
        (np.eye(3), 0, "shape"),
        (np.array([[np.nan, 1.0]]), 0, "is missing"),
        ("ablat", [0, 1], "rhs"),
        (object(), 0, "made of numbers"),
        (pd.DataFrame([[1.0]], columns=["year"]), 0, "the column 'year'"),
    ],
)
def test_wald_tests_that_make_no_sense(univariate, terms, rhs, message):
    with pytest.raises(InputError, match=message):
        univariate.wald_test(terms, rhs)


def test_tidy_frames(bivariate):
    tidy = bivariate.tidy()
    assert list(tidy["outcome"]) == ["PD", "PD", "AL", "AL"]
    assert list(tidy["term"]) == ["(Intercept)", "pubyear"] * 2
    assert tidy["estimate"].tolist() == bivariate.coef.iloc[[0, 2, 1, 3]].tolist()
    glance = bivariate.glance()
    assert len(glance) == 1
    assert glance.loc[0, "loglik"] == bivariate.loglik
    augmented = bivariate.augment()
    columns = ["outcome", "observed", "fitted", "residual", "standardised", "leverage", "blup"]
    assert list(augmented) == columns
    wide = augmented.pivot(columns="outcome", values="blup")[["PD", "AL"]]
    np.testing.assert_allclose(wide, bivariate.blup(), rtol=EXACT)


def test_update_refits(univariate):
    ml = univariate.update(method="ml")
    assert ml.method == "ml"
    assert univariate.method == "reml"
    assert ml.formula == univariate.formula
    with pytest.raises(InputError, match="no argument 'methd'"):
        univariate.update(methd="ml")


def test_double_precision_without_touching_the_configuration(univariate):
    assert not jax.config.jax_enable_x64
    assert univariate.estimate.beta.dtype == np.float64
    assert univariate.Psi.to_numpy().dtype == np.float64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "remll"}, "'reml'"),
        ({"control": {"maxiter": 3}}, "a setting of control .* not 'maxiter'"),
        ({"control": {"max_iter": 0}}, "max_iter"),
        ({"control": {"gradient_tol": -1}}, "gradient_tol"),
        ({"control": {"n_starts": 1.5}}, "n_starts"),
        ({"control": "fast"}, "dict of its fields"),
        ({"data": "one study"}, "one study"),
        ({"data": "one study", "method": "ml"}, "one group"),
        ({"random": "~ 1 | alloc/trial", "method": "mm"}, "leave `random` out"),
        ({"bscov": "cs"}, "id"),
    ],
)
def test_models_that_cannot_be_fitted(bcg, changes, message):
    if changes.get("data") == "one study":
        changes = {**changes, "data": bcg.iloc[[3]]}
    arguments = {"S": "logorvar", "data": bcg, **changes}
    with pytest.raises(InputError, match=message):
        mx.mixmeta("logor", **arguments)


@pytest.mark.parametrize("method", ["ml", "reml"])
def test_two_groups_identify_a_covariance_of_two_effects(berkey, method):
    fit = mx.mixmeta("PD + AL", S=BERKEY_S, data=berkey.iloc[:2], method=method)
    assert fit.status is mx.Status.BOUNDARY
    assert np.linalg.eigvalsh(fit.Psi)[0] <= 1e-9


def test_univariate_methods_need_one_outcome(berkey):
    with pytest.raises(InputError, match="one outcome"):
        mx.mixmeta("PD + AL", S=BERKEY_S, data=berkey, method="dl")


@pytest.mark.parametrize("level", [3, -1, "school", 1.5, True])
def test_levels_that_are_not_there(nested, level):
    with pytest.raises(InputError, match="level"):
        nested.blup(level=level)
    with pytest.raises(InputError, match="level"):
        nested.predict(level=level)


@pytest.mark.parametrize(
    "choice", [{"type": "response"}, {"se_method": "best"}, {"conf_level": 95}, {"S": [1.0]}]
)
def test_unknown_choices_of_blups(nested, choice):
    with pytest.raises(InputError, match=next(iter(choice))):
        nested.blup(**choice)
