"""The regressions of a first stage against statsmodels, and against loops that are written out."""

import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx

sm = pytest.importorskip("statsmodels.api")

AGREES = 1e-8
"""Relative to the standard errors: statsmodels goes on until its deviance stands still."""


def daily(n_locations=4, days=400, seed=3):
    """Seeded series of daily counts, with a calendar, of unequal lengths."""
    rng = np.random.default_rng(seed)
    frames = []
    for c in range(n_locations):
        n = days + 30 * c
        day = np.arange(n)
        x = 15 + 10 * np.sin(day / 58) + rng.normal(0, 3, n) + c
        mean = np.exp(3 + 0.001 * (x - 15) ** 2 + 0.1 * np.cos(day / 30))
        own = {
            "city": f"city {c}",
            "temp": x,
            "deaths": rng.poisson(mean * rng.gamma(20, 1 / 20, n)),
            "day": day,
            "dow": day % 7,
            "pm": rng.gamma(2, 5, n),
            "people": rng.integers(1000, 2000, n),
            "importance": rng.uniform(0.5, 2, n),
            "rate": rng.normal(size=n) + 0.02 * x + 50,
        }
        frames.append(pd.DataFrame(own))
    data = pd.concat(frames, ignore_index=True)
    data["log_people"] = np.log(data["people"])
    data["ill"] = rng.binomial(data["people"], 0.01 + 0.0002 * data["temp"].clip(0))
    data["any"] = (data["deaths"] > 25).astype(int)
    return data


def controls_of(rows):
    """An intercept, two waves and the days of the week."""
    columns = [np.ones(len(rows)), np.sin(rows["day"] / 30), np.cos(rows["day"] / 30)]
    columns += [(rows["dow"] == d) * 1.0 for d in range(1, 7)]
    return np.column_stack(columns)


CONTROLS = "~ sin(day / 30) + cos(day / 30) + C(dow)"


def by_statsmodels(X, y, family, **options):
    families = {
        "poisson": sm.families.Poisson(),
        "gaussian": sm.families.Gaussian(),
        "binomial": sm.families.Binomial(),
    }
    fit = sm.GLM(y, X, family=families[family.removeprefix("quasi")], **options)
    fit = fit.fit(tol=1e-14, maxiter=100)
    # scale="X2" forgets the trials; Pearson's statistic itself does not.
    scale = fit.pearson_chi2 / fit.df_resid if family.startswith("quasi") else fit.scale
    return fit.params, fit.cov_params() * scale / fit.scale, scale, fit.df_resid


CASES = {
    "quasipoisson": ("quasipoisson", "deaths", {}),
    "poisson": ("poisson", "deaths", {}),
    "gaussian": ("gaussian", "rate", {}),
    "trials": ("binomial", "ill", {"trials": "people"}),
    "quasibinomial": ("quasibinomial", "ill", {"trials": "people"}),
    "ones": ("binomial", "any", {}),
    "offset": ("quasipoisson", "deaths", {"offset": "log_people"}),
    "weights": ("gaussian", "rate", {"weights": "importance"}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("backend", ["numpy", "jax"])
def test_each_location_is_the_regression_of_statsmodels(case, backend):
    family, outcome, given = CASES[case]
    data = daily()

    def basis(x):
        return np.column_stack([x, (x - 15) ** 2])

    first = mx.first_stage(
        data,
        by="city",
        outcome=outcome,
        exposure="temp",
        basis=basis,
        controls=CONTROLS,
        family=family,
        control={"backend": backend},
        **given,
    )
    assert len(first) == 4
    for i, (label, rows) in enumerate(data.groupby("city")):
        X = np.column_stack([basis(rows["temp"].to_numpy()), controls_of(rows)])
        y, options = rows[outcome].to_numpy(float), {}
        if "trials" in given:
            y = np.column_stack([y, rows["people"] - y])
        if "offset" in given:
            options["offset"] = rows["log_people"]
        if "weights" in given:
            options["var_weights"] = rows["importance"]
        params, V, scale, df = by_statsmodels(X, y, family, **options)
        se = np.sqrt(np.diag(V)[:2])
        assert first.coef.index[i] == label
        np.testing.assert_allclose(first.coef.iloc[i] / se, params[:2] / se, rtol=0, atol=AGREES)
        np.testing.assert_allclose(first.vcov[i], V[:2, :2], rtol=AGREES)
        np.testing.assert_allclose(first.dispersion.iloc[i], scale, rtol=AGREES)
        assert first.df_resid.iloc[i] == df
