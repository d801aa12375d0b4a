"""Every public function and method with legal arguments, small enough to be called often.

`tests/test_arguments.py` finds the public names by itself and fails for one that is not here. A new
function or method needs one line in `CALLS`: what makes its legal arguments. `WRONG` holds values
of every kind, from which each parameter in turn is given those that are not its own.
"""

import datetime
import functools
import inspect
from contextlib import nullcontext
from decimal import Decimal

import numpy as np
import pandas as pd

import mixmeta_jax as mx

ENGINE = {"backend": "numpy"}

NOT_CALLED = {
    "Fit": "mixmeta makes it",
    "ManyFits": "fit_many makes it",
    "Design": "make_design makes it",
    "Estimate": "estimate makes it",
    "FirstStage": "first_stage makes it",
    "Regression": "regression makes it",
    "Structure": "a base class without parameters",
    "Status": "an enumeration",
    "plots": "a module, whose functions are called as those of the package",
    "MixmetaError": "an exception",
    "InputError": "an exception",
    "PrecisionError": "an exception",
}
"""Public names that users do not call, and why."""

PROTOCOL = {
    "angle_of",
    "at_bound",
    "check",
    "correlation",
    "curvature",
    "factor",
    "in_correlation",
    "matrices",
    "min_groups",
    "n_parameters",
    "natural",
    "null_variances",
    "ordered",
    "psi",
    "sizes",
    "slopes",
    "starts",
    "starts_of_sets",
    "terms",
    "theta",
    "without_null",
}
"""Methods of structures and designs that the library calls, perhaps traced: for users to write."""

INNER = {"columns_at_units", "level_number", "spread", "get", "items", "keys", "values"}
"""Methods of fits that the library's own modules call, and those of every mapping."""


@functools.cache
def data():
    """Six studies in three districts; never changed by anyone."""
    return pd.DataFrame(
        {
            "y": [0.1, 0.9, -0.4, 0.3, 0.6, -0.2],
            "y2": [0.2, 0.5, 0.1, 0.0, 0.4, 0.3],
            "v": [0.1, 0.2, 0.1, 0.3, 0.2, 0.1],
            "v2": [0.2, 0.1, 0.1, 0.2, 0.2, 0.1],
            "x": [1.0, 2.0, 3.0, 4.0, 5.0, 7.0],
            "group": [1, 1, 2, 2, 3, 3],
            "time": [0.0, 1.0, 0.0, 1.0, 0.0, 1.0],
            "arm": ["a", "b", "a", "a", "b", "b"],
        }
    )


@functools.cache
def fit():
    return mx.mixmeta("y ~ x", S="v", data=data(), control=ENGINE)


@functools.cache
def nested():
    return mx.mixmeta("y ~ x", S="v", data=data(), random="~ 1 | group", control=ENGINE)


@functools.cache
def fits():
    return mx.fit_many(outcomes(), data()["v"].to_numpy(), progress=False, control=ENGINE)


@functools.cache
def design():
    return mx.make_design(data()["y"].to_numpy(), S=data()["v"].to_numpy())


@functools.cache
def estimated():
    import jax

    with jax.enable_x64(True):
        return mx.estimate(design(), method="fixed")


@functools.cache
def factors():
    return mx.mixmeta("y ~ x + arm", S="v", data=data(), control=ENGINE)


@functools.cache
def one_mean():
    return mx.mixmeta("y", S="v", data=data(), control=ENGINE)


@functools.cache
def two_outcomes():
    return mx.mixmeta("y + y2 ~ 1", S=["v", "v2"], rho=0.2, data=data(), control=ENGINE)


@functools.cache
def bootstrapped():
    return larger().bootstrap_inference(n=19, progress=False)


@functools.cache
def axes(count=1):
    """Axes without a window, drawn upon time and again: a new figure each time would be slow."""
    from matplotlib.figure import Figure

    drawn = Figure().subplots(1, count, squeeze=False)[0].tolist()
    return drawn[0] if count == 1 else drawn


def outcomes():
    return np.stack([data()["y"], data()["y2"]])


def doses():
    return pd.DataFrame(
        {
            "study": ["a", "a", "a"],
            "logrr": [0.0, 0.3, 0.5],
            "se": [np.nan, 0.2, 0.25],
            "cases": [20, 30, 25],
            "n": [100, 110, 80],
            "type": ["cc"] * 3,
            "dose": [0.0, 1.0, 2.0],
        }
    )


def arms():
    return pd.DataFrame(
        {
            "study": [1, 1, 2, 2],
            "treatment": ["A", "B", "A", "C"],
            "events": [3, 5, 4, 6],
            "total": [20, 22, 30, 31],
        }
    )


def scenario():
    own = {"y": np.zeros(6), "S": data()["v"].to_numpy(), "Psi": [[0.1]], "coef": [0.0]}
    return {"one": own | {"control": ENGINE}}


def days():
    """Twenty days of two cities."""
    day = np.arange(40) % 20
    own = {
        "city": ["a"] * 20 + ["b"] * 20,
        "day": day,
        "heat": np.sin(day),
        "one": 1.0,
        "weight": 2.0,
    }
    return pd.DataFrame(own | {"deaths": 5 + (day * day) % 7, "people": 20 + day})


@functools.cache
def regressed():
    return mx.first_stage(days(), "city", "deaths", "heat", "linear()", lag=1, control=ENGINE)


def studied():
    return mx.simulation_study(scenario(), nsim=2, progress=False)


def estimates():
    return {label: ([0.2 * i, 0.1], np.eye(2)) for i, label in enumerate("abcd")}


@functools.cache
def pooled():
    return mx.pool(estimates(), bscov="id", control=ENGINE)


def heat(x):
    import jax.numpy as jnp

    xp = jnp if isinstance(x, jnp.ndarray) else np
    return xp.stack([x, x**2], 1)


def warm_days():
    return {label: [0.0, 0.5, 1.0] for label in "abcd"}


def drawn_curves():
    return {
        "fit": pooled(),
        "basis": heat,
        "exposure": warm_days(),
        "within": (0.0, 1.0),
        "percentiles": (1.0, 99.0),
        "level": None,
        "n": 2,
        "seed": 0,
        "conf_level": 0.95,
        "se_method": "exact",
    }


def of_doses():
    return {"data": doses()} | {name: name for name in doses().columns}


def of_arms():
    names = {name: name for name in ("study", "treatment", "events", "total")}
    return {"data": arms(), **names, "reference": "A", "zero_cell": 0.5, "augment": (0.001, 0.01)}


def repeated():
    return {"data": data(), "group": "group", "variance": "v", "rho": 0.5}


def joint():
    return {"design": design(), "beta": np.zeros(1), "eta": np.zeros(1)}


def drawn_at():
    import jax

    return {"key": jax.random.key(0), "theta": np.ones(1), "beta": np.zeros(1), "design": design()}


def tested():
    return {"test": "t", "df": 4, "adhoc": False, "information": "expected"}


def drawn():
    return {"ci": "delta", "conf_level": 0.95, "n": 19, "seed": 0}


def averaged():
    return tested() | {
        "at": {"x": 2.0},
        "weights": "equal",
        "conf_level": 0.95,
        "simultaneous": None,
        "transform": None,
    }


def hypotheses():
    return {"terms_or_matrix": ["x"], "rhs": 0}


def leveled():
    return {"conf_level": 0.95}


def picture(fit, **own):
    return {"fit": fit, "ax": axes(), "return_data": False, **own}


CALLS = {
    "AR1": dict,
    "attributable": lambda: (
        drawn_curves()
        | {
            "outcome": warm_days(),
            "reference": "minimum",
            "ranges": {"all": (None, None)},
            "by": dict.fromkeys("abcd", "north"),
            "direction": "forward",
            "lag": 0,
            "period": [2001, 2001, 2002],
        }
    ),
    "attributable_fraction": lambda: {
        "coef": [0.1, 0.2],
        "basis": heat,
        "exposure": [0.0, 1.0],
        "outcome": [3.0, 4.0],
        "reference": 0.5,
        "lag": 0,
        "low": None,
        "high": 1.0,
    },
    "BlockDiagonal": lambda: {"parts": ["id"], "sizes": [1]},
    "CompoundSymmetry": dict,
    "ContinuousAR1": lambda: {"times": [0.0, 1.0]},
    "Control": lambda: {
        "max_iter": 100,
        "gradient_tol": 1e-6,
        "start": None,
        "n_starts": None,
        "vc_adjust": True,
        "verbose": False,
        "mesh": None,
        "backend": "numpy",
    },
    "Correlation": lambda: {"Psi_fix": np.eye(2)},
    "Diagonal": dict,
    "FactorAnalytic": lambda: {"rank": 1},
    "Fixed": lambda: {"Psi_fix": np.eye(2)},
    "HeterogeneousAR1": dict,
    "HeterogeneousCompoundSymmetry": dict,
    "HeterogeneousContinuousAR1": lambda: {"times": [0.0, 1.0]},
    "HeterogeneousToeplitz": dict,
    "Identity": dict,
    "Kronecker": lambda: {"A": "id", "B": "id", "sizes": [1, 2]},
    "Priors": lambda: {"sd_scale": 1.0, "sd_df": 3.0, "concentration": 1.0, "beta_scale": None},
    "Proportional": lambda: {"Psi_fix": np.eye(2)},
    "ReducedRank": lambda: {"rank": 1},
    "Toeplitz": dict,
    "Unstructured": dict,
    "ar1_blocks": lambda: repeated() | {"time": "time", "unit": 1.0},
    "blups": lambda: {"fitted": estimated(), "design": design()},
    "bootstrap": lambda: {
        "fit": fit(),
        "n": 2,
        "seed": 0,
        "kind": "parametric",
        "first": 0,
        "progress": False,
        "generator": "numpy",
    },
    "cochran_q": lambda: {"design": design()},
    "compare": lambda: {"fits": fixed(), "names": ["a", "b"]},
    "covariances": lambda: {"eta": np.zeros(1), "design": design()},
    "cross_basis": lambda: {"b": np.ones((4, 2)), "c": np.ones((2, 1)), "first": 0},
    "cs_blocks": repeated,
    "cumulative": lambda: {"fit": nested(), "order": None, "progress": False},
    "curves": lambda: {
        "fit": pooled(),
        "basis": [[0.0, 1.0], [1.0, 2.0]],
        "at": [0, 1],
        "level": None,
        "conf_level": 0.95,
        "reference": None,
        "se_method": "paper",
        "pooled": None,
    },
    "describe_dataset": lambda: {"name": "bcg"},
    "effect_sizes": lambda: {
        "kind": "logit",
        "data": arms(),
        "study": None,
        "zero_cell": 0.5,
        "events": "events",
        "total": "total",
    },
    "estimate": lambda: {"design": design(), "method": "fixed", "control": None},
    "first_stage": lambda: {
        "data": days(),
        "by": "city",
        "outcome": "deaths",
        "exposure": "heat",
        "basis": "linear()",
        "lag": 1,
        "lag_basis": "linear()",
        "controls": "~ day",
        "family": "binomial",
        "offset": "one",
        "weights": "weight",
        "trials": "people",
        "time": "day",
        "control": ENGINE,
    },
    "fit_many": lambda: {
        "y": outcomes(),
        "S": data()["v"].to_numpy(),
        "formula": "~ 1",
        "random": None,
        "data": data(),
        "method": "reml",
        "bscov": "unstr",
        "Psi_fix": None,
        "rho": None,
        "offset": None,
        "returns": ["coef"],
        "batch_size": None,
        "progress": False,
        "control": ENGINE,
        "hold": {"unit": {"var": 0.1}},
    },
    "greenland_longnecker": of_doses,
    "hamling": of_doses,
    "inputcov": lambda: {"sd": [[1.0, 2.0]], "cor": 0.5},
    "join_studies": lambda: {"tables": [studied()]},
    "leave_one_out": lambda: {"fit": fit(), "by": "unit", "progress": False},
    "list_datasets": dict,
    "load_dataset": lambda: {"name": "bcg"},
    "log_density": lambda: joint() | {"priors": None},
    "log_likelihood": lambda: {"theta": np.ones(1), "design": design(), "method": "reml"},
    "long_contrasts": of_arms,
    "lr_test": lambda: {
        "smaller": fixed(),
        "larger": larger(),
        "n": 2,
        "seed": 0,
        "first": 0,
        "progress": False,
    },
    "make_design": lambda: {
        "y": data()["y"].to_numpy(),
        "X": None,
        "S": data()["v"].to_numpy(),
        "random": None,
        "data": data(),
        "bscov": "unstr",
        "Psi_fix": None,
        "rho": None,
        "offset": None,
    },
    "minimum_exposure": lambda: {"coef": [0.1, 0.2], "basis": heat, "low": 0.0, "high": 1.0},
    "minimum_risk": lambda: drawn_curves() | {"pooled": heat},
    "mixmeta": lambda: {
        "formula": "y ~ x",
        "S": "v",
        "data": data(),
        "random": "~ 1 | group",
        "method": "reml",
        "bscov": "unstr",
        "Psi_fix": None,
        "rho": None,
        "offset": None,
        "subset": None,
        "na_action": "omit",
        "control": ENGINE,
        "hold": {"group": {"var": 0.1}},
    },
    "mixmeta_sim": lambda: {
        "y": np.zeros(6),
        "S": data()["v"].to_numpy(),
        "Psi": [[0.1]],
        "random": "~ 1 | group",
        "data": data(),
        "nsim": 2,
        "seed": 0,
        "rho": None,
        "first": 0,
        "generator": "numpy",
    },
    "network_contrasts": of_arms,
    "permutation_test": lambda: {
        "fit": fit(),
        "term": "x",
        "n": 2,
        "seed": 0,
        "first": 0,
        "progress": False,
    },
    "pool": lambda: {
        "estimates": estimates(),
        "predictors": "~ 1",
        "data": None,
        "labels": None,
        "names": ["a", "b"],
        "bscov": "id",
        "control": ENGINE,
    },
    "predict": lambda: {"fitted": estimated(), "X": [[1.0]]},
    "register_transform": lambda: {"name": "doubled", "function": lambda x: 2 * x},
    "regression": lambda: {
        "y": np.array([1.0, 0.0, 2.0, 5.0]),
        "X": np.ones((4, 1)),
        "family": "poisson",
        "offset": None,
        "weights": None,
    },
    "simulate": drawn_at,
    "simulation_study": lambda: {
        "scenarios": scenario(),
        "nsim": 2,
        "seed": 0,
        "first": 0,
        "conf_level": 0.95,
        "progress": False,
        "generator": "numpy",
    },
    "vech": lambda: {"matrices": np.eye(2)},
    "xpnd": lambda: {"rows": [1.0, 0.5, 2.0]},
    # Methods
    "BootstrapInference.boundary": dict,
    "BootstrapInference.contrasts": hypotheses,
    "BootstrapInference.lr_test": lambda: {"smaller": fixed()},
    "BootstrapInference.predict": lambda: {
        "newdata": data(),
        "level": None,
        "transform": "exp",
    },
    "BootstrapInference.varcomp": dict,
    "BootstrapInference.wald_test": hypotheses,
    "Fit.add_terms": lambda: tested() | {"terms": ["time"]},
    "Fit.augment": dict,
    "Fit.blup": lambda: {
        "level": None,
        "type": "outcome",
        "se": True,
        "pi": True,
        "vcov": False,
        "conf_level": 0.95,
        "se_method": "paper",
        "newdata": data(),
        "S": "v",
        "by": "unit",
        "transform": None,
    },
    "Fit.bootstrap_inference": lambda: {
        "n": 19,
        "seed": 0,
        "kind": "wild",
        "conf_level": 0.95,
        "first": 0,
        "progress": False,
        "cluster": None,
    },
    "Fit.conf_int": lambda: {"alpha": 0.05},
    "Fit.confint": lambda: tested() | leveled() | {"simultaneous": None},
    "Fit.contrasts": lambda: averaged() | {"of": "arm", "against": "a"},
    "Fit.drop_terms": lambda: tested() | {"terms": ["x"]},
    "Fit.glance": dict,
    "Fit.h2": lambda: drawn() | {"form": "variance"},
    "Fit.i2": lambda: drawn() | {"form": "variance"},
    "Fit.influence": lambda: {"by": "unit", "method": "first_order", "progress": False},
    "Fit.means": lambda: averaged() | {"factors": "arm"},
    "Fit.predict": lambda: (
        tested()
        | {
            "newdata": data(),
            "se": True,
            "ci": True,
            "pi": True,
            "vcov": False,
            "conf_level": 0.95,
            "level": None,
            "reference": 0,
            "prob": 0.0,
            "transform": None,
        }
    ),
    "Fit.profile": lambda: {
        "parameters": "var",
        "values": [0.0, 0.1],
        "n": 3,
        "conf_level": 0.95,
    },
    "Fit.qtest": dict,
    "Fit.r2": lambda: drawn() | {"smaller": one_mean(), "ci": None},
    "Fit.ranef": lambda: {"level": None, "se": True},
    "Fit.reference": tested,
    "Fit.report": lambda: {"conf_level": 0.95, "digits": 3, "test": "t", "df": 4},
    "Fit.resid": lambda: {"type": "raw", "progress": False},
    "Fit.robust": lambda: {"cluster": None, "type": "CR2", "test": "t", "df": 4},
    "Fit.simulate": lambda: {"nsim": 2, "seed": 0, "first": 0, "generator": "numpy"},
    "Fit.summary": lambda: tested() | leveled() | {"report": "sd"},
    "Fit.tidy": lambda: tested() | leveled(),
    "Fit.update": lambda: {"formula": "~ . + time", "method": "ml"},
    "Fit.varcomp": lambda: drawn() | {"test": False},
    "Fit.wald_test": lambda: tested() | hypotheses(),
    "FirstStage.control_covariance": lambda: {"location": "a"},
    "FirstStage.covariance": lambda: {"location": "a"},
    "FirstStage.exposure": lambda: {"location": "a"},
    "FirstStage.outcome": lambda: {"location": "a"},
    "FirstStage.reduce": lambda: {"lag": None, "at": 0.5, "reference": 0.1},
    "ManyFits.to_frame": dict,
    "RobustFit.confint": lambda: leveled() | {"simultaneous": None},
    "RobustFit.summary": lambda: leveled() | {"report": "sd"},
    "RobustFit.tidy": leveled,
    "RobustFit.wald_test": hypotheses,
    # Pictures
    "plots.baujat": lambda: picture(one_mean(), outcome="y", labels=None),
    "plots.bubble": lambda: picture(
        factors(),
        predictor="x",
        outcome="y",
        at={"arm": "a"},
        transform=None,
        ci=True,
        pi=True,
        conf_level=0.95,
    ),
    "plots.caterpillar": lambda: picture(
        nested(), level="group", effects=["(Intercept)"], conf_level=0.95
    ),
    "plots.curves": lambda: {
        "table": curved(),
        "ax": axes(4),
        "pooled": curved(0),
        "xlabel": "dose",
        "ylabel": "effect",
        "return_data": False,
    },
    "plots.ellipse": lambda: picture(
        two_outcomes(), outcomes=["y", "y2"], at=None, conf_level=0.95
    ),
    "plots.forest": lambda: picture(
        factors(),
        labels="group",
        columns=["x"],
        by="arm",
        order="effect",
        blup=True,
        pi=True,
        transform=None,
        xlabel="effect",
        conf_level=0.95,
    ),
    "plots.funnel": lambda: picture(
        one_mean(),
        outcome="y",
        residuals=False,
        contours=[0.9],
        transform=None,
        labels=None,
        conf_level=0.95,
    ),
    "plots.gosh": lambda: picture(one_mean(), n=3, term="(Intercept)", seed=0, progress=False),
    "plots.influence": lambda: picture(one_mean(), by="unit", method="first_order", ax=axes(5)),
    "plots.network": lambda: {
        "data": arms(),
        "study": "study",
        "treatment": "treatment",
        "ax": axes(),
        "return_data": False,
    },
    "plots.orchard": lambda: picture(
        factors(), by="arm", outcome="y", at={"x": 1.0}, transform=None, conf_level=0.95
    ),
    "plots.profile": lambda: picture(one_mean(), parameter="var", conf_level=0.9),
    "plots.qq": lambda: picture(one_mean(), outcome="y", conf_level=0.95),
    "plots.radial": lambda: picture(one_mean(), outcome="y", conf_level=0.95),
    "plots.refits": lambda: {
        "table": left_out(),
        "term": "x",
        "ax": axes(),
        "transform": None,
        "conf_level": 0.95,
        "return_data": False,
    },
    "plots.response": lambda: picture(
        factors(),
        predictor="x",
        reference=1.0,
        grid=[1.0, 2.0],
        at={"arm": "a"},
        transform=None,
        pi=True,
        xlabel="x",
        conf_level=0.95,
    ),
    "plots.structure": lambda: picture(nested()),
}
"""Legal arguments, by the function, or by the class and its method."""


@functools.cache
def fixed():
    return mx.mixmeta("y", S="v", data=data(), method="fixed")


@functools.cache
def larger():
    return mx.mixmeta("y ~ x", S="v", data=data(), method="ml", control=ENGINE)


@functools.cache
def curved(level=None):
    return mx.curves(pooled(), [[0.0, 1.0], [1.0, 2.0]], at=[0, 1], level=level)


@functools.cache
def left_out():
    return mx.leave_one_out(fit(), progress=False)


@functools.cache
def robust():
    return fit().robust()


OWNERS = {
    "Fit": fit,
    "FirstStage": regressed,
    "ManyFits": fits,
    "BootstrapInference": bootstrapped,
    "RobustFit": robust,
}
"""What the methods of a class are called on."""

OWN_FITS = {
    "Fit.contrasts": factors,
    "Fit.means": factors,
}
"""Fits that a method is called on in the place of the usual one, which it says nothing of."""

FULL_PRECISION = {
    "attributable_fraction",
    "minimum_exposure",
    "blups",
    "cochran_q",
    "covariances",
    "estimate",
    "log_density",
    "log_likelihood",
    "predict",
    "regression",
    "simulate",
}
"""Functions that are called with JAX in double precision."""


def called(name):
    """The function or bound method of a name."""
    first, *rest = name.split(".")
    value = OWN_FITS.get(name, OWNERS.get(first))
    start = getattr(mx, first) if value is None else value()
    return functools.reduce(getattr, rest, start)


def call(name, given):
    """Call by keywords; of ``*fits`` the first is given, before one that is a fit."""
    function = called(name)
    several = [
        p for p in inspect.signature(function).parameters.values() if p.kind is p.VAR_POSITIONAL
    ]
    first = [each for p in several for each in (given.pop(p.name), larger())]
    with in_precision(name):
        return function(*first, **given)


def in_precision(name):
    """JAX in double precision, where a function is to be called so."""
    if name not in FULL_PRECISION:
        return nullcontext()
    import jax

    return jax.enable_x64(True)


def endless():
    held = []
    held.append(held)
    return held


class Rude:
    """An object that answers every question with an error."""

    def __array__(self, *_, **__):
        raise RuntimeError("array")

    def __repr__(self):
        raise RuntimeError("repr")

    def __len__(self):
        raise RuntimeError("len")

    def __bool__(self):
        raise RuntimeError("bool")

    def __eq__(self, other):
        raise RuntimeError("eq")

    def __hash__(self):
        raise RuntimeError("hash")


WRONG = {
    "None": lambda: None,
    "text": lambda: "no such thing",
    "empty text": lambda: "",
    "blank": lambda: " ",
    "long text": lambda: "x" * 100_000,
    "half a character": lambda: "\ud800",
    "null character": lambda: "a\0b",
    "bytes": lambda: b"y",
    "True": lambda: True,
    "False": lambda: False,
    "NumPy's True": lambda: np.True_,
    "zero": lambda: 0,
    "one": lambda: 1,
    "negative": lambda: -1,
    "half": lambda: 0.5,
    "fractional": lambda: 2.5,
    "complex": lambda: 1j,
    "beyond 64 bits": lambda: 2**64,
    "huge": lambda: 10**400,
    "thousands of digits": lambda: 10**5000,
    "nan": lambda: float("nan"),
    "infinite": lambda: float("inf"),
    "minus infinite": lambda: float("-inf"),
    "Decimal": lambda: Decimal("sNaN"),
    "empty list": list,
    "empty tuple": tuple,
    "numbers": lambda: [1.0, 2.0],
    "texts": lambda: ["a", "b"],
    "mixed": lambda: [1.0, "a", None],
    "Nones": lambda: [None, None],
    "truths": lambda: [True, False],
    "complex numbers": lambda: [1j, 2.0],
    "huge numbers": lambda: [10**400, 1],
    "ragged": lambda: [[1.0], [1.0, 2.0]],
    "deep": lambda: [[[[[1.0]]]]],
    "endless": endless,
    "dict": lambda: {"a": 1.0},
    "empty dict": dict,
    "odd dict": lambda: {None: object(), 3: []},
    "set": lambda: {1.0, "a"},
    "generator": lambda: (i for i in range(3)),
    "range": lambda: range(3),
    "slice": lambda: slice(None),
    "object": object,
    "rude object": Rude,
    "class": lambda: dict,
    "function": lambda: len,
    "module": lambda: np,
    "exception": lambda: ValueError("x"),
    "date": lambda: datetime.date(2001, 1, 1),
    "timestamp": lambda: pd.Timestamp("2001-01-01"),
    "not a time": lambda: pd.NaT,
    "missing": lambda: pd.NA,
    "duration": lambda: np.timedelta64(3, "s"),
    "dates": lambda: np.array(["2001-01-01"] * 6, "M8[D]"),
    "empty array": lambda: np.zeros(0),
    "empty matrix": lambda: np.zeros((0, 0)),
    "matrix": lambda: np.ones((2, 2)),
    "three axes": lambda: np.ones((2, 2, 2)),
    "five axes": lambda: np.ones((1, 1, 1, 1, 1)),
    "no axes": lambda: np.array(1.0),
    "objects": lambda: np.array([object()] * 6, object),
    "lists in an array": lambda: pd.Series([[1.0], [2.0]] * 3),
    "array of texts": lambda: np.array(["y", "v"]),
    "records": lambda: np.zeros(6, [("a", float)]),
    "masked": lambda: np.ma.masked_array([1.0] * 6, [True] + [False] * 5),
    "six": lambda: np.ones(6),
    "six with NaN": lambda: np.array([np.nan] + [1.0] * 5),
    "six infinite": lambda: np.full(6, np.inf),
    "series of dates": lambda: pd.Series(pd.date_range("2001", periods=6)),
    "periods": lambda: pd.Series(pd.period_range("2001", periods=6, freq="Y")),
    "index": lambda: pd.Index(["a", "b"]),
    "frame": data,
    "empty frame": pd.DataFrame,
    "frame of lists": lambda: pd.DataFrame({"a": [[1], [2]]}),
    "frame without rows": lambda: data().iloc[:0],
    "fit": fit,
    "design": design,
    "structure": lambda: mx.Identity(),
    "structure's class": lambda: mx.Identity,
    "control": lambda: mx.Control(),
    "status": lambda: mx.Status.CONVERGED,
    "Ellipsis": lambda: ...,
}
"""Values of every kind."""
