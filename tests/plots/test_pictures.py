"""Pictures: as they looked when they were looked at, and the figures that they draw.

The images in ``images/`` were made by ``python -m tests.plots.test_pictures`` with matplotlib
3.11.2, opened and looked at. They are small and without text, which differs between versions.
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.testing.compare import compare_images
from scipy import stats

import mixmeta_jax as mx
from mixmeta_jax.plots.canvas import ratio_ticks, shortened

IMAGES = Path(__file__).parent / "images"

LOOKS_THE_SAME = 6.0
"""Root mean square of the difference of two pictures, of 255: edges that are smoothed otherwise."""

SAME = 1e-12
"""Relative: the same figures by other algebra."""

ARMS = pd.DataFrame({"study": [1, 1, 2, 2, 3, 3, 3, 4, 4], "arm": list("ABACABCBD")})


def bcg(formula="logor"):
    return mx.mixmeta(formula, S="logorvar", data=mx.load_dataset("bcg"))


def called(column, name):
    """The fit on a predictor under another name."""
    data = mx.load_dataset("bcg").rename(columns={column: name})
    return mx.mixmeta(f"logor ~ {name}", S="logorvar", data=data)


def held():
    hold = {"unit": {"var(Intercept)": 0.3}}
    return mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"), hold=hold)


def berkey(formula="PD + AL ~ 1"):
    S = ["var_PD", "cov_PD_AL", "var_AL"]
    return mx.mixmeta(formula, S=S, data=mx.load_dataset("berkey98"))


def school():
    data = mx.load_dataset("school")
    return mx.mixmeta("effect", S="var", data=data, random="~ 1 | district/study")


def dbs():
    times = ["month3", "month6", "month12", "long"]
    y, S = ([f"{kind}_{time}" for time in times] for kind in ("eff", "var"))
    return mx.mixmeta(" + ".join(y), S=S, data=mx.load_dataset("dbs"), bscov="har1", rho=0.5)


def alcohol():
    data = mx.load_dataset("alcohol")
    names = {"logrr": "logrr", "se": "se", "cases": "cases", "n": "peryears", "type": "type"}
    S = mx.greenland_longnecker(data, study="id", **names)
    return mx.mixmeta(
        "logrr ~ 0 + ns(dose, knots=[10, 25])",
        S=S,
        data=data[data["dose"] > 0],
        random="~ 0 + dose | id",
        method="ml",
    )


def many():
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"y": rng.normal(0.3, 0.5, 200), "v": rng.uniform(0.02, 0.3, 200)})
    data["name"] = [f"A long name of a study by a large consortium, number {i}" for i in range(200)]
    return mx.mixmeta("y", S="v", data=data)


def located():
    """Curves of five locations, and the pooled one."""
    rng = np.random.default_rng(3)
    slopes = [(rng.normal([0.1, 0.02], 0.02), np.diag([3e-4, 1e-5])) for _ in range(5)]
    fit = mx.pool(slopes, labels=list("abcde"))
    at = np.linspace(0, 10, 21)
    basis = np.stack([at, at**2 - 10 * at], axis=1)
    return mx.curves(fit, basis, at)


PICTURES = {
    "forest": lambda: bcg().plot.forest(
        labels="author", columns=["year", "ablat"], transform="exp", blup=True
    ),
    "forest_groups": lambda: bcg("logor ~ alloc").plot.forest(by="alloc", order="effect"),
    "forest_outcomes": lambda: berkey("PD + AL ~ pubyear").plot.forest(),
    "forest_200": lambda: many().plot.forest(
        labels="name", order="precision", ax=pyplot.subplots(figsize=(6, 8))[1]
    ),
    "bubble": lambda: bcg("logor ~ ablat + alloc").plot.bubble("ablat", transform="exp"),
    "orchard": lambda: bcg("logor ~ ablat + alloc").plot.orchard("alloc"),
    "response": lambda: alcohol().plot.response(
        "dose", reference=0, grid=np.linspace(0, 60, 61), transform="exp", pi=True
    ),
    "caterpillar": lambda: school().plot.caterpillar("district"),
    "ellipse": lambda: berkey().plot.ellipse(),
    "structure": lambda: dbs().plot.structure(),
    "structure_blocks": lambda: alcohol().plot.structure(),
    "funnel": lambda: bcg().plot.funnel(labels="author"),
    "funnel_contours": lambda: bcg().plot.funnel(contours=(0.9, 0.95, 0.99), transform="exp"),
    "funnel_residuals": lambda: bcg("logor ~ ablat").plot.funnel(),
    "radial": lambda: bcg().plot.radial(),
    "baujat": lambda: bcg().plot.baujat(labels="author"),
    "qq": lambda: bcg().plot.qq(),
    "influence": lambda: bcg("logor ~ ablat").plot.influence(),
    "profile": lambda: school().plot.profile(),
    "curves": lambda: mx.plots.curves(located()),
    "gosh": lambda: bcg().plot.gosh(300),
    "network": lambda: mx.plots.network(ARMS, "study", "arm"),
    "refits": lambda: mx.plots.refits(mx.cumulative(bcg(), progress=False), transform="exp"),
}


@pytest.fixture(autouse=True)
def style():
    """Figures that no window opens for, and that are closed again."""
    with mpl.rc_context({**mpl.rcParamsDefault, "backend": "agg", "figure.dpi": 40}):
        yield
        pyplot.close("all")


def saved(name, folder):
    """The picture without its text, as a file."""
    drawn = PICTURES[name]()
    figure = (drawn[0] if isinstance(drawn, list) else drawn).figure
    # Once with its text, which has to find its place without a warning.
    figure.canvas.draw()
    for text in figure.findobj(mpl.text.Text):
        text.set_visible(False)
    figure.set_layout_engine("none")
    path = folder / f"{name}.png"
    figure.savefig(path, dpi=40, metadata={"Software": None})
    return path


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_look_as_they_did(name, tmp_path):
    difference = compare_images(
        str(IMAGES / f"{name}.png"), str(saved(name, tmp_path)), LOOKS_THE_SAME
    )
    assert difference is None


def test_a_picture_that_has_changed_is_seen(tmp_path):
    """What the tolerance is for: one study of thirteen that moves is more than it allows."""
    fit = bcg()
    for name, changed in (("a", fit), ("b", bcg("logor ~ ablat"))):
        axes = changed.plot.funnel()
        axes.figure.savefig(tmp_path / f"{name}.png", dpi=40)
    assert compare_images(str(tmp_path / "a.png"), str(tmp_path / "b.png"), LOOKS_THE_SAME)


def test_every_picture_has_an_image_and_every_image_a_picture():
    assert {path.stem for path in IMAGES.glob("*.png")} == set(PICTURES)
    drawn = {name.split("_")[0] for name in PICTURES}
    assert drawn == set(mx.plots.__all__)


def test_a_fit_has_the_pictures_of_fits_with_their_docstrings():
    fit = bcg()
    assert set(dir(fit.plot)) == set(mx.plots.__all__) - {"curves", "network", "refits"}
    assert fit.plot.forest.__doc__ == mx.plots.forest.__doc__
    with pytest.raises(AttributeError, match="has no picture 'pie'"):
        _ = fit.plot.pie
    with pytest.raises(mx.InputError, match="Choose a picture"):
        fit.plot()


def test_drawing_uses_the_axes_that_are_given_and_shows_nothing():
    _, axes = pyplot.subplots(1, 2)
    assert bcg().plot.funnel(ax=axes[0]) is axes[0]
    drawn = berkey().plot.forest(ax=axes)
    assert drawn[0] is axes[0] and drawn[1] is axes[1]
    for wrong in (axes, axes[0].figure, "axes", 1):
        with pytest.raises(mx.InputError, match="ax must be one matplotlib Axes"):
            bcg().plot.funnel(ax=wrong)
    with pytest.raises(mx.InputError, match="a sequence of 2"):
        berkey().plot.forest(ax=axes[0])


def test_the_forest_draws_the_estimates_of_the_fit():
    fit = bcg()
    _, table = fit.plot.forest(transform="exp", blup=True, return_data=True)
    data, z = mx.load_dataset("bcg"), stats.norm.ppf(0.975)
    studies, pooled = (table[table["kind"] == kind] for kind in ("study", "pooled"))
    se = np.sqrt(data["logorvar"])
    np.testing.assert_allclose(studies["lower"], np.exp(data["logor"] - z * se), rtol=SAME)
    weight = 1 / (data["logorvar"] + fit.Psi.iloc[0, 0])
    np.testing.assert_allclose(studies["weight"], 100 * weight / weight.sum(), rtol=SAME)
    np.testing.assert_allclose(studies["blup"], np.exp(fit.blup()["blup"]), rtol=SAME)
    interval = np.exp(fit.confint().loc["(Intercept)", ["estimate", "lower", "upper"]])
    np.testing.assert_allclose(
        pooled[["estimate", "lower", "upper"]].iloc[0].astype(float), interval, rtol=SAME
    )
    wider = np.sqrt(fit.vcov.iloc[0, 0] + fit.Psi.iloc[0, 0])
    np.testing.assert_allclose(
        pooled["pi_upper"].iloc[0], np.exp(fit.coef.iloc[0] + z * wider), rtol=SAME
    )


def test_groups_of_a_forest_have_the_effect_that_the_model_expects():
    fit = bcg("logor ~ alloc")
    _, table = fit.plot.forest(by="alloc", order="precision", return_data=True)
    expected = fit.predict(pd.DataFrame({"alloc": ["random", "alternate", "systematic"]}))
    np.testing.assert_allclose(
        table.loc[table["kind"] == "pooled", "estimate"], expected["fit"], rtol=SAME
    )
    _, table = bcg("logor ~ ablat").plot.forest(by="alloc", return_data=True)
    assert not (table["kind"] == "pooled").any()
    assert (table["kind"] == "group").sum() == 3


def test_rows_that_were_left_out_are_not_drawn_and_labels_keep_their_rows():
    data = mx.load_dataset("bcg").assign(rank=range(13))
    data.loc[2, "logor"] = np.nan
    for na_action in ("omit", "exclude"):
        fit = mx.mixmeta("logor", S="logorvar", data=data, subset="ablat > 15", na_action=na_action)
        _, table = fit.plot.forest(labels="rank", return_data=True)
        studies = table[table["kind"] == "study"]
        rows = studies["label"].astype(int)
        assert 2 not in set(rows) and (data["ablat"].to_numpy()[rows] > 15).all()
        np.testing.assert_array_equal(studies["estimate"], data["logor"].to_numpy()[rows])


def test_the_bubbles_are_partial_residuals_at_what_is_held():
    fit = bcg("logor ~ ablat + alloc")
    _, table = fit.plot.bubble("ablat", at={"alloc": "alternate"}, return_data=True)
    data, units = mx.load_dataset("bcg"), table[table["kind"] == "unit"]
    shift = {"alternate": 0.0}
    for name in ("random", "systematic"):
        there = fit.coef.get(f"alloc[T.{name}]", 0.0)
        shift[name] = there
    np.testing.assert_allclose(units["fit"], data["logor"] - data["alloc"].map(shift), rtol=SAME)
    curve = table[table["kind"] == "curve"]
    new = pd.DataFrame({"ablat": curve["ablat"].to_numpy(), "alloc": "alternate"})
    np.testing.assert_allclose(curve["ci_upper"], fit.predict(new, ci=True)["ci_upper"], rtol=SAME)


def test_the_curve_is_zero_at_its_reference():
    _, table = alcohol().plot.response("dose", reference=10, grid=[5, 10, 20], return_data=True)
    row = table[table["dose"] == 10].iloc[0]
    np.testing.assert_allclose(row[["fit", "ci_lower", "ci_upper"]].astype(float), 0, atol=1e-15)


def texts(axes):
    """The boxes of annotations on axes, as they are drawn."""
    axes.figure.canvas.draw()
    drawn = [t for t in axes.texts if isinstance(t, mpl.text.Annotation)]
    return {t.get_text(): t.get_window_extent() for t in drawn}


@pytest.mark.parametrize("draw", ["funnel", "baujat", "influence"])
def test_names_beside_points_do_not_meet(draw):
    """Of 200 studies with long names, those of the furthest that have room."""
    options = {} if draw == "influence" else {"labels": "name"}
    found = getattr(many().plot, draw)(**options)
    for axes in found if isinstance(found, list) else [found]:
        boxes = list(texts(axes).values())
        assert 2 <= len(boxes) <= 12
        for i, one in enumerate(boxes):
            assert not any(one.overlaps(other) for other in boxes[:i])


def test_influence_names_the_furthest():
    axes, table = bcg("logor ~ ablat").plot.influence(return_data=True)
    cook = next(axis for axis in axes if axis.get_title() == "cook")
    assert str(table["cook"].idxmax()) in {t.get_text() for t in cook.texts}
    # Variances that are all at zero are all alike: none is far.
    same = mx.mixmeta("y", S="v", data=pd.DataFrame({"y": [0.1, 0.2, 0.15], "v": [1.0, 1, 1]}))
    axes = same.plot.influence()
    variance = next(axis for axis in axes if axis.get_title().startswith("variance"))
    assert not variance.texts


def test_long_names_keep_both_ends():
    assert shortened("short") == "short"
    assert shortened("x" * 38) == "x" * 38
    names = [f"Randomised trial of the western consortium and others, {1950 + i}" for i in range(9)]
    cut = [shortened(name, 24) for name in names]
    assert len(set(cut)) == 9 and all(len(name) <= 24 and "…" in name for name in cut)


def test_a_forest_grows_with_what_is_written_beside_it():
    data = mx.load_dataset("bcg")
    data["long"] = [f"A trial by a consortium with a long name, {i}" for i in range(13)]
    fit = mx.mixmeta("logor", S="logorvar", data=data)
    short, wide = fit.plot.forest(), fit.plot.forest(labels="long", columns=["long", "logorvar"])
    assert wide.figure.get_figwidth() > short.figure.get_figwidth() + 2
    wide.figure.canvas.draw()
    # The panel keeps its room, and no text is beyond the figure.
    assert wide.get_position().width * wide.figure.get_figwidth() > 2
    assert all(text.get_window_extent().x0 >= -1 for text in wide.texts)
    assert "0.35712" in {text.get_text() for text in wide.texts}


def test_the_ellipses_have_the_distance_of_their_coverage():
    fit = berkey()
    _, table = fit.plot.ellipse(conf_level=0.9, return_data=True)
    centre = fit.coef.to_numpy()
    for kind, V in (("confidence", fit.vcov), ("prediction", fit.vcov + fit.Psi.to_numpy())):
        gap = table.loc[table["kind"] == kind, ["PD", "AL"]].to_numpy() - centre
        distance = np.einsum("ni,ij,nj->n", gap, np.linalg.inv(V.to_numpy()), gap)
        np.testing.assert_allclose(distance, stats.chi2.ppf(0.9, 2), rtol=1e-9)


def test_the_baujat_plot_is_that_of_single_refits():
    fit = bcg()
    _, table = fit.plot.baujat(return_data=True)
    data = mx.load_dataset("bcg")
    without = mx.mixmeta("logor", S="logorvar", data=data.drop(index=3))
    change = fit.coef.iloc[0] - without.coef.iloc[0]
    np.testing.assert_allclose(table["influence"][3], change**2 / fit.vcov.iloc[0, 0], rtol=1e-5)
    np.testing.assert_allclose(table["heterogeneity"].sum(), fit.qtest()["Q"].iloc[0], rtol=SAME)


def test_the_subsets_of_a_gosh_plot_are_fits_of_their_own():
    fit = bcg()
    _, table = fit.plot.gosh(40, seed=3, return_data=True)
    assert table["size"].between(2, 13).all()
    whole = table[table["size"] == 13]
    np.testing.assert_allclose(whole["estimate"], fit.coef.iloc[0], rtol=1e-6)
    np.testing.assert_allclose(whole["I2"], fit.qtest()["I2"].iloc[0], rtol=1e-9)


def test_a_gosh_plot_passes_over_subsets_that_cannot_be_fitted():
    # Subsets of one category only have no contrast of categories: they are left out, not an error.
    _, table = bcg("logor ~ alloc").plot.gosh(60, return_data=True)
    assert 0 < len(table) < 60
    assert np.isfinite(table.to_numpy()).all()


def test_the_heterogeneity_of_a_gosh_plot_is_that_of_all_of_S():
    fit = alcohol().update("logrr ~ 0 + dose")
    _, table = fit.plot.gosh(20, return_data=True)
    whole = table[table["size"] == 8]
    assert len(whole)
    np.testing.assert_allclose(whole["I2"], fit.qtest()["I2"].iloc[0], rtol=1e-9)


def test_influence_of_two_studies_draws_what_there_is():
    fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg")[:2])
    _, table = fit.plot.influence(return_data=True)
    assert table["cook"].isna().all() and table["leverage"].notna().all()


def test_the_ellipse_of_new_predictors_has_their_random_slopes():
    rng = np.random.default_rng(4)
    x = np.repeat(np.arange(4.0), 6)
    slope = np.tile(rng.normal(size=(6, 2)), (4, 1))
    y = pd.DataFrame(x[:, None] * slope + rng.normal(size=(24, 2)), columns=["a", "b"])
    data = y.assign(x=x, study=np.tile(range(6), 4))
    fit = mx.mixmeta("a + b ~ x", S=np.full((24, 2), 0.1), rho=0.0, data=data, random="~ x | study")
    Z = np.kron([[1.0, 3.0]], np.eye(2))
    V = Z @ (fit.vcov.to_numpy() + fit.Psi.to_numpy()) @ Z.T
    centre = Z @ fit.coef.to_numpy()
    for at in ({"x": 3.0}, 23):
        _, table = fit.plot.ellipse(at=at, return_data=True)
        gap = table.loc[table["kind"] == "prediction", ["a", "b"]].to_numpy() - centre
        distance = np.einsum("ni,ij,nj->n", gap, np.linalg.inv(V), gap)
        np.testing.assert_allclose(distance, stats.chi2.ppf(0.95, 2), rtol=1e-8)


def test_rows_that_differ_by_an_offset_have_no_pooled_effect():
    data = mx.load_dataset("bcg")
    fit = mx.mixmeta("logor", S="logorvar", data=data, offset=data["ablat"] / 100)
    _, table = fit.plot.forest(return_data=True)
    fitted = table[table["kind"] == "fitted"]
    np.testing.assert_allclose(fitted["estimate"], fit.fitted.to_numpy().ravel())
    assert "pooled" not in set(table["kind"])
    _, table = fit.plot.funnel(return_data=True)
    np.testing.assert_allclose(table["effect"], fit.residuals.to_numpy().ravel())


def test_a_pooled_effect_with_random_slopes_has_no_one_prediction_interval():
    data = mx.load_dataset("school").assign(time=lambda d: d["year"] - 1990)
    fit = mx.mixmeta("effect", S="var", data=data, random="~ time | district")
    _, table = fit.plot.forest(return_data=True)
    row = table[table["kind"] == "pooled"].iloc[0]
    assert np.isfinite(row["lower"]) and np.isnan(row["pi_lower"])


def test_a_forest_plot_shows_rows_without_a_category():
    data = mx.load_dataset("bcg").astype({"alloc": object})
    data.loc[[2, 5], "alloc"] = None
    fit = mx.mixmeta("logor", S="logorvar", data=data)
    _, table = fit.plot.forest(by="alloc", return_data=True)
    assert (table["kind"] == "study").sum() == 13
    assert "(missing)" in set(table.loc[table["kind"] == "group", "label"])


def test_residuals_in_order_have_the_bands_of_their_order():
    _, table = bcg().plot.qq(return_data=True)
    i, n = 3, len(table)
    assert table["lower"][i - 1] == pytest.approx(
        stats.norm.ppf(stats.beta.ppf(0.025, i, n + 1 - i))
    )
    assert table["residual"].is_monotonic_increasing


@pytest.mark.parametrize("label", [float, complex, str])
def test_the_network_writes_counts_whatever_its_labels_are(label):
    arms = ARMS.assign(arm=[label(number) for number in pd.factorize(ARMS["arm"])[0]])
    ax, table = mx.plots.network(arms, "study", "arm", return_data=True)
    written = {text.get_text() for text in ax.texts}
    assert set(map(str, table["studies"])) <= written


def test_the_network_counts_its_studies():
    _, table = mx.plots.network(ARMS, "study", "arm", return_data=True)
    counts = {(row.treatment, row.other): row.studies for row in table.itertuples()}
    assert counts == {("A", "B"): 2, ("A", "C"): 2, ("B", "C"): 1, ("B", "D"): 1}


def test_the_structure_shows_what_is_there():
    _, table = dbs().plot.structure(return_data=True)
    data = mx.load_dataset("dbs")
    assert table["observed eff_month3"].sum() == data["eff_month3"].notna().sum()
    _, table = alcohol().plot.structure(return_data=True)
    assert table.groupby("block").size().tolist() == table.groupby("id").size().tolist()


@pytest.mark.parametrize(
    ("low", "high", "some"),
    [(0.1, 10, [0.1, 1, 10]), (0.5, 2, [0.5, 1, 2]), (0.9, 1.2, [1.0, 1.1, 1.2]), (1e-3, 1e3, [1])],
)
def test_ticks_of_ratios_are_round_and_few(low, high, some):
    ticks = ratio_ticks(low, high)
    assert 2 <= len(ticks) <= 7 and low <= min(ticks) and max(ticks) <= high * (1 + 1e-9)
    assert all(any(np.isclose(tick, value) for tick in ticks) for value in some)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: bcg().plot.bubble(), "Name the predictor to draw: .* are none"),
        (lambda: bcg("logor ~ alloc").plot.bubble("alloc"), "'alloc' is not drawn"),
        (lambda: bcg("logor ~ ablat").plot.bubble("ablat", at={"x": 1}), "at names 'x'"),
        (lambda: bcg().plot.orchard("alloc"), "'alloc' is not a predictor"),
        (lambda: bcg().plot.orchard(), "by=: the predictors of the model are none"),
        (lambda: bcg("logor ~ ablat").plot.orchard(), "by=: the predictors of the model are ablat"),
        (lambda: bcg("logor ~ ablat").plot.response(), "a value of 'ablat': give it, as in refere"),
        (lambda: mx.plots.response(bcg("logor ~ ablat"), "ablat"), "give it, as in reference=0"),
        (lambda: bcg().plot.response(), "Name the predictor to draw"),
        (lambda: called("alloc", "kind").plot.orchard("kind"), "'kind' is called as a column"),
        (lambda: called("ablat", "weight").plot.bubble(), "'weight' is called as a column"),
        (lambda: called("ablat", "fit").plot.response("fit", reference=0), "'fit' is called as"),
        (lambda: bcg().plot.ellipse(), "needs two outcomes"),
        (lambda: berkey().plot.ellipse(["PD", "PD"]), "Name two outcomes"),
        (lambda: berkey("PD + AL ~ pubyear").plot.ellipse(), "give at="),
        (lambda: berkey().plot.funnel(), "Name the outcome to draw"),
        (lambda: berkey().plot.funnel(outcome="x"), "outcome must be one of 'PD', 'AL', not 'x'"),
        (lambda: bcg("logor ~ ablat").plot.funnel(residuals=False), "residuals=True"),
        (lambda: bcg().plot.funnel(contours=(95,)), "between 0 and 1"),
        (lambda: bcg("logor ~ ablat").plot.radial(), "without predictors"),
        (lambda: berkey("PD + AL ~ pubyear").plot.ellipse(at={"pubyear": np.nan}), "missing"),
        (lambda: held().plot.profile(), "all are held or given"),
        (lambda: bcg().plot.forest(labels="x"), "There is no column 'x'"),
        (lambda: bcg().plot.forest(labels=["a"]), "1 names for 13"),
        (
            lambda: bcg().plot.forest(order="size"),
            "order must be one of .*, not 'size'",
        ),
        (
            lambda: bcg().plot.forest(transform="log"),
            "transform must be one of None, 'exp'",
        ),
        (lambda: school().plot.caterpillar("city"), "level must be a level .* not 'city'"),
        (lambda: school().plot.caterpillar(effects=["x"]), "effects must be one of .*, not 'x'"),
        (lambda: bcg().plot.gosh(0), "at least 1"),
        (lambda: mx.plots.network(ARMS[:1], "study", "arm"), "a row per arm"),
        (lambda: mx.plots.network(ARMS, "study", "x"), "There is no column 'x'"),
        (lambda: mx.plots.curves(pd.DataFrame({"a": [1]})), "what curves returned"),
        (lambda: mx.plots.refits(pd.DataFrame({"a": [1]})), "cumulative or leave_one_out"),
    ],
)
def test_a_picture_that_does_not_fit_the_model_is_refused(draw, message):
    with pytest.raises(mx.InputError, match=message):
        draw()


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    with pytest.raises(mx.InputError, match=r"pip install 'mixmeta_jax\[plot\]'"):
        bcg().plot.funnel()


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    with mpl.rc_context({**mpl.rcParamsDefault, "backend": "agg", "figure.dpi": 40}):
        for picture in PICTURES:
            saved(picture, IMAGES)
