"""From a formula and a data frame to a fitted model: `mixmeta` and its result, `Fit`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, Literal, Unpack, overload

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.choices import (
    CapitalMethod,
    DegreesOfT,
    InformationKind,
    Method,
    MissingAction,
    RandomMethod,
    TermTest,
)
from mixmeta_jax.control import Control, as_control
from mixmeta_jax.covariance.catalogue import Structures, resolve_structures
from mixmeta_jax.covariance.held_names import held_structures
from mixmeta_jax.design.sharding import mesh_of
from mixmeta_jax.errors import InputError
from mixmeta_jax.estimation.blas import one_thread
from mixmeta_jax.estimation.estimator import fit_design
from mixmeta_jax.fits import term_tests
from mixmeta_jax.fits.arguments import (
    LIKELIHOOD_METHODS,
    ModelOptions,
    by_position,
    check_hold,
    method_of,
)
from mixmeta_jax.fits.coefficients import check_test
from mixmeta_jax.fits.diagnostic_methods import DiagnosticMethods
from mixmeta_jax.fits.familiar_names import FamiliarNames
from mixmeta_jax.fits.kept import frozen, kept_arguments
from mixmeta_jax.fits.mean_methods import MeanMethods
from mixmeta_jax.fits.moment_fit import fit_moments
from mixmeta_jax.fits.prediction_methods import PredictionMethods
from mixmeta_jax.fits.term_tests import TermTests
from mixmeta_jax.fits.variance_methods import VarianceMethods
from mixmeta_jax.formulas.updates import has_dots, updated_formula
from mixmeta_jax.inference.reference import Reference
from mixmeta_jax.plots.accessor import Plots
from mixmeta_jax.report.summary import model_title
from mixmeta_jax.report.words import coefficient_words
from mixmeta_jax.table.frame import build_frame
from mixmeta_jax.table.frame_design import design_from_frame
from mixmeta_jax.table.rules import count_faults, model_faults, raise_first

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    PsiType = TypeVar("PsiType", default=Any, covariant=True)
else:
    from typing import TypeVar

    PsiType = TypeVar("PsiType", covariant=True)


class Fit(
    FamiliarNames,
    PredictionMethods,
    MeanMethods,
    DiagnosticMethods,
    VarianceMethods,
    Generic[PsiType],
):
    """A fitted model, as `mixmeta` returns it; see `FittedModel` for its attributes.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> mx.mixmeta("logor ~ ablat", S="logorvar", data=mx.load_dataset("bcg"))
    <Univariate random-effects meta-regression: logor ~ ablat, method='reml', CONVERGED>
      (Intercept)  0.301 (0.2146)
      ablat        -0.03153 (0.006276)
    """

    def __repr__(self) -> str:
        title = model_title(self.frame.k, self.n_levels, self.method, self.frame.x_names)
        head = f"<{title}: {self.formula}, method='{self.method}', {self.status.name}>"
        return "\n".join([head, *coefficient_words(self)])

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    @property
    def Psi(self) -> PsiType:
        """Covariance of the random effects: a frame, {level: frame} of several levels, or None."""
        own: Any = super().Psi
        return own

    @property
    def plot(self) -> Plots:
        """Pictures: ``fit.plot.forest()``, ``funnel``, ``bubble``, ... (`mixmeta_jax.plots`)."""
        return Plots(self)

    def update(self, formula: Any = None, **changes: Any) -> Fit:
        """Refit with some of the arguments of `mixmeta` changed.

        The data are those that were fitted, whatever has been done to the frame since; columns
        that it has been given since are there too. Give ``data`` for any others.

        Parameters
        ----------
        formula
            A new one; dots are the sides of the fit's own: ``". ~ . - x"``. None to leave it.
        **changes
            Other arguments.

        Raises
        ------
        InputError
            For an argument that `mixmeta` has not, or dots where the fit has no formula.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> fit = mx.mixmeta("logor ~ ablat", S="logorvar", data=mx.load_dataset("bcg"))
        >>> fit.update("~ . + year").formula, fit.update(". ~ . - ablat", method="ml").formula
        ('logor ~ ablat + year', 'logor ~ 1')
        """
        for name in changes:
            if name not in self._arguments:
                raise InputError(
                    f"mixmeta has no argument '{name}': choose among {', '.join(self._arguments)}."
                )
        if isinstance(formula, str) and has_dots(formula):
            if self.frame.formula is None:
                raise InputError(
                    f"The formula '{formula}' builds on that of the fit, which has none: its "
                    "outcomes came as an array."
                )
            formula = updated_formula(self.frame.formula, formula)
        if formula is not None:
            changes["formula"] = formula
        made = mixmeta(**{**self._arguments, "data": self.data, **changes})
        return replace(made, origin=None if "data" in changes else self.origin)

    def drop_terms(
        self,
        terms: Any = None,
        test: TermTest = "lr",
        df: DegreesOfT | float | None = None,
        adhoc: bool = False,
        information: InformationKind = "expected",
    ) -> TermTests:
        """Test each term of the fixed part by leaving it out.

        Parameters
        ----------
        terms
            Terms, as they stand in the formula; default all that no interaction contains.
        test
            "lr" for likelihood ratios of fits by maximum likelihood, which refits a model that was
            fitted by another method and says so; or a test of `reference` for Wald tests of the
            term's coefficients, all outcomes together ("wald" is "z").
        df, adhoc, information
            Of `reference`.

        Returns
        -------
        TermTests

        Raises
        ------
        InputError
            For a term that cannot be dropped, an unknown test, or a fit without a formula.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> bcg = mx.load_dataset("bcg")
        >>> fit = mx.mixmeta("logor ~ ablat + year", S="logorvar", data=bcg, method="ml")
        >>> fit.drop_terms().table.pvalue.round(4)
        term
        <none>       NaN
        ablat     0.0033
        year      0.8520
        Name: pvalue, dtype: float64
        """
        check_test(test, df, adhoc, information, TermTest)
        reference = None
        if test != "lr":
            reference = self.reference("z" if test == "wald" else test, df, adhoc, information)
        return term_tests.drop_terms(self, self.update, terms, reference)

    def add_terms(
        self,
        terms: Any,
        test: TermTest = "lr",
        df: DegreesOfT | float | None = None,
        adhoc: bool = False,
        information: InformationKind = "expected",
    ) -> TermTests:
        """Test terms that the fixed part has not, each added by itself.

        Parameters
        ----------
        terms
            Terms, as they would stand in the formula.
        test, df, adhoc, information
            As in `drop_terms`; Wald tests are those of the wider model, fitted by the same method.

        Returns
        -------
        TermTests

        Raises
        ------
        InputError
            For a term that is there, or cannot be read; where it has missing values in units of the
            fit.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> bcg = mx.load_dataset("bcg")
        >>> fit = mx.mixmeta("logor", S="logorvar", data=bcg, method="ml")
        >>> fit.add_terms(["ablat", "year"]).table.pvalue.round(4)
        term
        <none>       NaN
        ablat     0.0005
        year      0.0578
        Name: pvalue, dtype: float64
        """
        check_test(test, df, adhoc, information, TermTest)
        if test == "lr":
            return term_tests.add_terms(self, self.update, terms, None)

        def reference(fit: Fit) -> Reference:
            return fit.reference("z" if test == "wald" else test, df, adhoc, information)

        return term_tests.add_terms(self, self.update, terms, reference)


@overload
def mixmeta(
    formula: Any,
    S: Any = None,
    data: Any = None,
    random: None = None,
    *,
    method: Literal["fixed"],
    **options: Unpack[ModelOptions],
) -> Fit[None]: ...


@overload
def mixmeta(
    formula: Any,
    S: Any = None,
    data: Any = None,
    random: None = None,
    method: RandomMethod | CapitalMethod = "reml",
    **options: Unpack[ModelOptions],
) -> Fit[pd.DataFrame]: ...


@overload
def mixmeta(
    formula: Any,
    S: Any = None,
    data: Any = None,
    random: Any = None,
    method: Method | CapitalMethod = "reml",
    bscov: Structures = "unstr",
    Psi_fix: Any = None,
    rho: Any = None,
    offset: Any = None,
    subset: Any = None,
    na_action: MissingAction = "omit",
    control: Control | Mapping[str, Any] | None = None,
    hold: Mapping[str, Mapping[str, float]] | None = None,
) -> Fit: ...


def mixmeta(
    formula: Any,
    S: Any = None,
    data: Any = None,
    random: Any = None,
    method: Method | CapitalMethod = "reml",
    bscov: Structures = "unstr",
    Psi_fix: Any = None,
    rho: Any = None,
    offset: Any = None,
    subset: Any = None,
    na_action: MissingAction = "omit",
    control: Control | Mapping[str, Any] | None = None,
    hold: Mapping[str, Mapping[str, float]] | None = None,
) -> Fit:
    """Fit a mixed model for meta-analysis, with known error covariances.

    The model is y_i = X_i β + Z_i b_i + ε_i with b_i ~ N(0, Ψ_i) and ε_i ~ N(0, S_i), S_i known
    (Sera et al. 2019, equation 1).

    Parameters
    ----------
    formula
        Fixed part, as ``"logor ~ ablat"``; several outcomes as ``"PD + AL ~ pubyear"`` or
        ``"cbind(PD, AL) ~ pubyear"``; ``"logor"`` alone has an intercept only. Or the n outcomes
        themselves, an array or frame of shape (n,) or (n, k).
    S
        Error covariances: column names or data of n variances for k = 1; n × k variances;
        n × k(k+1)/2 lower triangles by column; n × k × k matrices; a list of n matrices; or
        {label of the outer group: matrix} for blocks that span rows.
    data
        Data frame with one row per unit.
    random
        Random part: ``"~ 1 | district/study"``, ``["~ time | study"]`` or
        ``{"district": "~ 1", "study": "~ 1"}``, outer level first; None for one group per unit.
    method
        "fixed", "ml", "reml", "mm" or "vc"; for k = 1 also "dl", "he", "hs", "sj", "pm", "eb".
    bscov
        Covariance structure of the random effects: a name or instance, one per level outer first,
        or {level: name or instance}.
    Psi_fix
        Matrix, or {level: matrix}, for the structures "prop", "cor" and "fixed".
    rho
        Correlations within units, where S holds variances only.
    offset
        Column names or data of shape (n,) or (n, k), subtracted from the outcomes and added back
        in fitted values and predictions.
    subset
        Rows to use.
    na_action
        "omit" rows with missing values; "exclude" them and fill their outputs with NaN; or "raise".
    control
        `Control`, or a dict of its fields.
    hold
        Natural parameters of the random effects that are not estimated but held, {level: {name:
        value}}, for "ml" and "reml": ``var(effect)``, ``cov(effect, effect)`` or ``cor(effect,
        effect)``, without effects where all share it ("var", "cor" of "cs" and "ar1"), and "tau2"
        for "prop"; the names of `Fit.varcomp`. A level's only variance is "var" too, its only
        correlation "cor" or "rho".

    Returns
    -------
    Fit

    Raises
    ------
    InputError
        Where the data cannot be read or the model cannot be fitted to them; the message names the
        row, study, column or level.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> fit = mx.mixmeta("logor ~ ablat", S="logorvar", data=mx.load_dataset("bcg"))
    >>> fit.coef.round(3).to_dict()
    {'(Intercept)': 0.301, 'ablat': -0.032}
    >>> school = mx.load_dataset("school")
    >>> nested = mx.mixmeta("effect", S="var", data=school, random="~ 1 | district/study")
    >>> {level: float(Psi.iloc[0, 0].round(3)) for level, Psi in nested.Psi.items()}
    {'district': 0.065, 'study': 0.033}
    """
    arguments = kept_arguments(locals())
    gates.refuse_traced(arguments, "mixmeta")
    # The checks take products and factors of matrices too: see `estimation.blas`.
    with one_thread():
        return _fitted(arguments, data)


def _fitted(arguments: dict[str, Any], original: Any) -> Fit:
    """The fit, from the arguments of `mixmeta` as they are kept, and the data as given."""
    settings = as_control(arguments["control"])
    read = ("formula", "S", "data", "random", "rho", "offset", "subset", "na_action")
    frame = build_frame(*(arguments[name] for name in read))
    method = method_of(arguments["method"], frame.k)
    check_hold(arguments["hold"], method)
    seen = np.isfinite(frame.y)[None]
    raise_first(count_faults(method, seen, frame.p))
    names = [level.name for level in frame.levels]
    dims = [frame.k * level.Z.shape[1] for level in frame.levels]
    given = by_position(arguments["Psi_fix"], frame, "Psi_fix")
    structures = resolve_structures(arguments["bscov"], given, names, dims)
    effects = [frame.random_names(level) for level in range(len(names))]
    structures = held_structures(structures, arguments["hold"], names, effects)
    if settings.start is not None:
        settings = replace(settings, start=by_position(settings.start, frame, "control: start"))
    fitted = structures if method != "fixed" else ()
    raise_first(model_faults(method, frame.model(fitted), frame.within, seen))
    design = design_from_frame(frame, structures)
    if method in LIKELIHOOD_METHODS:
        if settings.mesh is None and settings.backend != "numpy":
            mesh = mesh_of(*(arguments[name] for name in ("formula", "S", "offset")))
            settings = settings if mesh is None else replace(settings, mesh=mesh)
        estimate = fit_design(design, method, settings, names)
    else:
        estimate = fit_moments(frame, design, method, settings)
    for part in (frame, design, estimate):
        frozen(part)
    return Fit(frame, design, estimate, method, arguments, original)
