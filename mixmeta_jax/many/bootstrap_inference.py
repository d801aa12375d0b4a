"""Inference from one set of batched refits: `BootstrapInference`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.choices import BootstrapKind, Transform
from mixmeta_jax.covariance.parameters import value_of
from mixmeta_jax.errors import InputError
from mixmeta_jax.fits import coefficients
from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.fits.kept import frozen
from mixmeta_jax.fits.robust import clusters_of
from mixmeta_jax.fits.simulation import check_draws
from mixmeta_jax.fits.variances import (
    check_likelihood,
    check_variances,
    components_of,
    names_of,
)
from mixmeta_jax.inference.drawn import tails
from mixmeta_jax.inference.influences import wald_statistics
from mixmeta_jax.inference.variances import origin_of
from mixmeta_jax.inference.wald import check_conf_level, check_independent
from mixmeta_jax.many.bootstrap_predictions import Refits, prediction_frame
from mixmeta_jax.many.bootstrap_ratio import lr_test
from mixmeta_jax.many.boundary import boundary_frame
from mixmeta_jax.many.many_fits import ManyFits
from mixmeta_jax.many.refits import converged, levels_of
from mixmeta_jax.many.studies import bootstrap
from mixmeta_jax.many.wild import wild_draws
from mixmeta_jax.report.results import LikelihoodRatioTest

FEWEST_DRAWS = 19
"""Draws from which a test at 5 percent can be significant."""


@dataclass(frozen=True, eq=False)
class BootstrapInference:
    """What refits to data sets drawn from a fit tell of it.

    Attributes
    ----------
    fit
        The fitted model.
    kind
        "parametric" or "wild".
    n, seed, first
        Number of data sets that were drawn, the seed, and number of the first.
    conf_level
        Level of the intervals.
    draws
        The refits, of the parametric bootstrap; None of the wild one, whose draws are of one
        hypothesis each.
    groups
        Cluster of each unit, of the wild bootstrap; else None.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> fit = mx.mixmeta("logor ~ ablat", S="logorvar", data=mx.load_dataset("bcg"))
    >>> found = fit.bootstrap_inference(n=99, seed=1)
    >>> found.coefficients[["estimate", "lower", "upper"]].round(2)
                 estimate  lower  upper
    (Intercept)      0.30  -0.23   0.83
    ablat           -0.03  -0.05  -0.02
    """

    fit: FittedModel
    kind: str
    n: int
    seed: int
    first: int
    conf_level: float
    draws: ManyFits | None
    groups: np.ndarray | None = None
    _wild: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        frozen(self.groups)

    def __repr__(self) -> str:
        return f"<{self.kind} bootstrap of {self.n} data sets, seed={self.seed}: {self.fit!r}>"

    @property
    def n_fitted(self) -> int:
        """Number of data sets whose refits converged; the others count for nothing."""
        if self.draws is None:
            return self.n
        return int(converged(self.draws).sum())

    @property
    def coefficients(self) -> pd.DataFrame:
        """``estimate, se, statistic, pvalue, mc_error, lower, upper`` of each coefficient.

        The statistic is the estimate over its standard error, of the model ("parametric") or
        cluster-robust, CR0 ("wild"). The p-value is the share of draws whose statistic is as large,
        the data among them, and ``mc_error`` its standard error over repetitions of the bootstrap;
        the interval is estimate ± the quantile of the absolute statistic times the standard error.
        """
        return self.contrasts(np.eye(len(self.fit.estimate.beta)))

    def contrasts(self, terms_or_matrix: Any, rhs: Any = 0) -> pd.DataFrame:
        """The same of linear combinations of the coefficients, each by itself.

        Parameters
        ----------
        terms_or_matrix
            As in `Fit.wald_test`: names, regular expressions or a matrix.
        rhs
            Hypothesised value, or one per combination.

        Raises
        ------
        InputError
            As `Fit.wald_test`.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> fit = mx.mixmeta("logor ~ ablat", S="logorvar", data=mx.load_dataset("bcg"))
        >>> found = fit.bootstrap_inference(n=99, seed=1)
        >>> found.contrasts([[1, 33.5]])[["estimate", "lower", "upper"]].round(2).to_numpy()
        array([[-0.76, -1.02, -0.49]])
        """
        L, v, words = coefficients.read_hypotheses(self.fit, terms_or_matrix, rhs)
        beta = self.fit.estimate.beta
        estimate = L @ beta
        if self.kind == "wild":
            pairs = [(L[[row]], v[[row]]) for row in range(len(L))]
            found = self._hypotheses(pairs)
            se = np.sqrt([row @ own.vcov @ row for row, own in zip(L, found, strict=True)])
            drawn = np.sqrt(np.stack([own.drawn for own in found], 1))
        else:
            coef, vcov = self._estimates()
            se = np.sqrt(np.einsum("ra,ab,rb->r", L, self.fit.estimate.vcov, L))
            spread = np.sqrt(np.einsum("ra,nab,rb->nr", L, vcov, L))
            drawn = np.abs((coef - beta) @ L.T) / spread
        with np.errstate(all="ignore"):  # residuals of zero have robust errors of zero
            statistic = (estimate - v) / se
        pvalue, error, quantile = self._tails(drawn, np.abs(statistic))
        half = quantile * se
        return pd.DataFrame(
            {
                "estimate": estimate,
                "se": se,
                "statistic": statistic,
                "pvalue": pvalue,
                "mc_error": error,
                "lower": estimate - half,
                "upper": estimate + half,
            },
            index=words,
        )

    def wald_test(self, terms_or_matrix: Any, rhs: Any = 0) -> pd.Series:
        """Joint test of Lβ = rhs: ``statistic, df, pvalue, mc_error, n``.

        The statistic is Wald's χ², with the covariance of `coefficients`.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> fit = mx.mixmeta("logor ~ alloc", S="logorvar", data=mx.load_dataset("bcg"))
        >>> found = fit.bootstrap_inference(n=99, seed=1)
        >>> found.wald_test("alloc")[["df", "pvalue"]].to_dict()
        {'df': 2, 'pvalue': 0.47}
        """
        L, v, _ = coefficients.read_hypotheses(self.fit, terms_or_matrix, rhs)
        check_independent(L)
        if self.kind == "wild":
            turned = self._hypotheses([(L, v)])[0]
            statistic, drawn = turned.observed, turned.drawn[:, None]
        else:
            coef, vcov = self._estimates()
            beta = self.fit.estimate.beta
            own = L @ self.fit.estimate.vcov @ L.T
            statistic = wald_statistics((L @ beta - v)[None], own[None])[0]
            drawn = wald_statistics((coef - beta) @ L.T, L @ vcov @ L.T)[:, None]
        pvalue, error, _ = self._tails(drawn, np.array([statistic]))
        values = (statistic, len(L), pvalue[0], error[0], int(np.isfinite(drawn).sum()))
        return pd.Series(values, index=["statistic", "df", "pvalue", "mc_error", "n"], dtype=object)

    def varcomp(self) -> pd.DataFrame:
        """``level, estimate, se, lower, upper`` of variances and correlations, by percentiles.

        A correlation counts in the draws in which it has a value.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
        >>> fit.bootstrap_inference(n=99, seed=1).varcomp().round(2)
                       level  estimate    se  lower  upper
        parameter
        var(Intercept)  unit      0.34  0.21   0.05   0.79
        """
        self._only_parametric("varcomp")
        check_variances(self.fit, "varcomp")
        parts = components_of(self.fit)
        drawn = self.components
        tail = (1 - self.conf_level) / 2
        with np.errstate(all="ignore"):
            se = [own.std(ddof=1) if len(own) > 1 else np.nan for own in _valid(drawn)]
        ends = [
            np.quantile(own, [tail, 1 - tail]) if len(own) else (np.nan,) * 2
            for own in _valid(drawn)
        ]
        lower, upper = np.array(ends).reshape(-1, 2).T
        return pd.DataFrame(
            {
                "level": [self.fit.level_names[place.level] for place in parts.places],
                "estimate": parts.estimates,
                "se": np.array(se, float),
                "lower": lower,
                "upper": upper,
            },
            index=pd.Index(names_of(self.fit, parts.places), name="parameter"),
        )

    @property
    def components(self) -> pd.DataFrame:
        """Variances and correlations of every draw, one row each; NaN where it has none."""
        self._only_parametric("components")
        check_variances(self.fit, "components")
        parts, draws = components_of(self.fit), self.draws
        assert draws is not None
        Psi = levels_of(draws)
        columns = []
        for place in parts.places:
            origin = origin_of(self.fit.design.structures[place.level])
            values = value_of(origin, place.parameter, Psi[place.level])
            columns.append(np.where(converged(draws), values, np.nan))
        pairs = zip(parts.places, names_of(self.fit, parts.places), strict=True)
        keys = [(self.fit.level_names[place.level], name) for place, name in pairs]
        index = pd.RangeIndex(self.first, self.first + self.n, name="draw")
        names = pd.MultiIndex.from_arrays(
            [[key[i] for key in keys] for i in range(2)], names=["level", "parameter"]
        )
        made = np.array(columns, float).reshape(len(columns), self.n)
        return pd.DataFrame(made.T, index=index, columns=names)

    def predict(
        self, newdata: Any = None, level: int | str | None = None, transform: Transform = None
    ) -> pd.DataFrame:
        """``fit, pi_lower, pi_upper``: prediction intervals of the outcomes of new groups.

        A new effect is drawn beside every data set; the interval is the prediction ± the quantile
        of the absolute error over its standard error, as estimated in each draw.

        Parameters
        ----------
        newdata, level, transform
            As in `Fit.predict`.

        Raises
        ------
        InputError
            As `Fit.predict`; for the wild bootstrap, which has no new effects.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> fit = mx.mixmeta("logor ~ ablat", S="logorvar", data=mx.load_dataset("bcg"))
        >>> fit.bootstrap_inference(n=99, seed=1).predict({"ablat": [20, 40]}).round(1)
           fit  pi_lower  pi_upper
        0 -0.3      -1.5       0.8
        1 -1.0      -2.1       0.2
        """
        self._only_parametric("predict")
        assert self.draws is not None
        coef, vcov = self._estimates()
        refits = Refits(coef, vcov, levels_of(self.draws), self.seed, self.first)
        return prediction_frame(self.fit, refits, self.conf_level, newdata, level, transform)

    def lr_test(self, smaller: FittedModel) -> LikelihoodRatioTest:
        """The test of a smaller fit against this one, with as many draws from the smaller.

        Its ``bootstrap`` has the p-value and the Bartlett-corrected one; see `lr_test`.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> bcg = mx.load_dataset("bcg")
        >>> fit = mx.mixmeta("logor ~ ablat", S="logorvar", data=bcg, method="ml")
        >>> found = fit.bootstrap_inference(n=99, seed=1)
        >>> found.lr_test(fit.update("~ 1")).bootstrap.pvalue
        0.01
        """
        self._only_parametric("lr_test")
        return lr_test(smaller, self.fit, self.n, self.seed, self.first)

    def boundary(self) -> pd.DataFrame:
        """Tests of each variance at zero: ``level, statistic, pvalue, mc_error``, by bootstrap.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
        >>> fit.bootstrap_inference(n=99, seed=1).boundary()["pvalue"].to_dict()
        {'var(Intercept)': 0.01}
        """
        self._only_parametric("boundary")
        check_variances(self.fit, "boundary")
        return boundary_frame(self.fit, self.n, self.seed, self.first, always=True)

    def _estimates(self) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients (n, P) and their covariances (n, P, P); NaN where a refit failed."""
        draws = self.draws
        assert draws is not None
        lost = ~converged(draws)
        coef, vcov = np.array(draws.coef), np.array(draws.vcov)
        coef[lost], vcov[lost] = np.nan, np.nan
        return coef, vcov

    def _hypotheses(self, pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[Any]:
        """Draws of hypotheses, refitted once each."""
        keys = [(L.tobytes(), L.shape, v.tobytes()) for L, v in pairs]
        new = [i for i, key in enumerate(keys) if key not in self._wild]
        if new:
            assert self.groups is not None
            asked = [pairs[i] for i in new]
            found = wild_draws(self.fit, asked, self.groups, self.n, self.seed, self.first)
            fresh = dict(zip([keys[i] for i in new], found, strict=True))
            # What Ctrl-C has cut short is told, and tried again when it is asked for again.
            self._wild.update({key: own for key, own in fresh.items() if own.whole})
            return [fresh[key] if key in fresh else self._wild[key] for key in keys]
        return [self._wild[key] for key in keys]

    def _tails(
        self, drawn: np.ndarray, observed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """p-values, their Monte Carlo errors, and quantiles; draws (n, r), observed (r,)."""
        pvalue, quantile = tails(drawn, observed, self.conf_level)
        count = np.isfinite(drawn).sum(0)
        return pvalue, np.sqrt(pvalue * (1 - pvalue) / (count + 1)), quantile

    def _only_parametric(self, what: str) -> None:
        if self.kind != "parametric":
            raise InputError(
                f"{what} is by the parametric bootstrap: the wild one tells of coefficients alone."
            )


def bootstrap_inference(
    fit: FittedModel,
    n: int = 999,
    seed: int = 0,
    kind: str = "parametric",
    conf_level: float = 0.95,
    first: int = 0,
    progress: bool = True,
    cluster: Any = None,
) -> BootstrapInference:
    """See `Fit.bootstrap_inference`."""
    level = check_conf_level(conf_level)
    gates.choice(kind, "kind", BootstrapKind)
    gates.flag(progress, "progress")
    n = gates.whole(n, "n", FEWEST_DRAWS, hint=": fewer draws cannot tell 5 percent")
    check_draws(n, seed, first, fit.design.y.size, "n")
    if fit.method != "fixed":
        check_likelihood(fit, "bootstrap_inference")
    if kind == "wild":
        groups = clusters_of(fit, cluster)[0]
        return BootstrapInference(fit, kind, n, seed, first, level, None, groups)
    if cluster is not None:
        raise InputError("cluster is of the wild bootstrap: give kind='wild', or leave it out.")
    draws = bootstrap(fit, n, seed, "parametric", first, progress)
    return BootstrapInference(fit, kind, n, seed, first, level, draws)


def _valid(frame: pd.DataFrame) -> list[np.ndarray]:
    return [column[np.isfinite(column)] for column in frame.to_numpy().T]
