"""Cluster-robust tables of a fit: clusters as the user names them, and the same tables as a fit."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.choices import RandomReport, RobustTest, RobustType, Simultaneous
from mixmeta_jax.errors import InputError
from mixmeta_jax.estimation.blas import one_thread
from mixmeta_jax.fits import coefficients
from mixmeta_jax.fits.fitted_model import FittedModel
from mixmeta_jax.fits.kept import frozen
from mixmeta_jax.fits.references import positive_df, refuse_without_estimates
from mixmeta_jax.inference.cluster_robust import (
    FEW,
    Robust,
    RobustNormal,
    RobustT,
    cluster_sums,
)
from mixmeta_jax.inference.outer_groups import outer_groups
from mixmeta_jax.inference.reference import Reference
from mixmeta_jax.report import tidying
from mixmeta_jax.report.results import WaldTest
from mixmeta_jax.report.summary import SummaryResult, summarise
from mixmeta_jax.report.tables import square_frame
from mixmeta_jax.table.columns import refuse_reordered, row_label
from mixmeta_jax.table.rows import as_pandas, chosen_rows

LISTED = 6
"""Coefficients that a note names."""


@dataclass(frozen=True, eq=False, repr=False)
class RobustFit:
    """A fit with cluster-robust errors, as `Fit.robust` returns it; ``str`` is its summary.

    Attributes
    ----------
    fit
        The fit, whose coefficients these are.
    reference
        The robust covariance, and the reference distribution of tests and intervals.
    type
        Correction of the residuals, "CR0" to "CR3".
    cluster, n_clusters
        What the clusters are, and how many there are.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> fit = mx.mixmeta("logor ~ ablat", S="logorvar", data=mx.load_dataset("bcg"))
    >>> fit.robust()
    <cluster-robust (CR2, 13 clusters of unit), t with Satterthwaite's df, joint tests HTZ>
    """

    fit: FittedModel
    reference: Reference
    type: str
    cluster: str
    n_clusters: int
    notes: tuple[str, ...] = field(default=())

    @property
    def coef(self) -> pd.Series:
        """The coefficients of the fit."""
        return self.fit.coef

    @property
    def vcov(self) -> pd.DataFrame:
        """Cluster-robust covariance of the coefficients, shape (p·k, p·k)."""
        return square_frame(self.reference.vcov.copy(), self.fit.frame.coef_names())

    def summary(self, conf_level: float = 0.95, report: RandomReport = "sd") -> SummaryResult:
        """The fit in a page, its coefficients with robust errors; see `Fit.summary`.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> fit = mx.mixmeta("logor ~ ablat", S="logorvar", data=mx.load_dataset("bcg"))
        >>> fit.robust().summary().coefficients.round(3)
                     estimate     se      t     df  pvalue  lower  upper
        (Intercept)     0.301  0.163  1.842  3.419   0.151 -0.185  0.787
        ablat          -0.032  0.004 -7.340  4.823   0.001 -0.043 -0.020
        """
        return summarise(self.fit, conf_level, report, self.reference)

    def confint(self, conf_level: float = 0.95, simultaneous: Simultaneous = None) -> pd.DataFrame:
        """Confidence intervals of the coefficients; see `Fit.confint`.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> fit = mx.mixmeta("logor ~ ablat", S="logorvar", data=mx.load_dataset("bcg"))
        >>> fit.robust(type="CR1").confint().round(3)
                     estimate  lower  upper     df
        (Intercept)     0.301 -0.137  0.739  3.770
        ablat          -0.032 -0.041 -0.022  5.394
        """
        return coefficients.interval_frame(self.fit, conf_level, simultaneous, self.reference)

    def wald_test(self, terms_or_matrix: Any, rhs: Any = 0) -> WaldTest:
        """Test linear hypotheses Lβ = rhs on the coefficients jointly; see `Fit.wald_test`.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> fit = mx.mixmeta("logor ~ ablat + year", S="logorvar", data=mx.load_dataset("bcg"))
        >>> test = fit.robust().wald_test(["ablat", "year"])
        >>> round(test.statistic, 2), round(test.df_residual, 2), round(test.pvalue, 3)
        (10.59, 2.46, 0.062)
        """
        return coefficients.joint_test(self.fit, terms_or_matrix, rhs, self.reference)

    def tidy(self, conf_level: float = 0.95) -> pd.DataFrame:
        """One row per coefficient; see `Fit.tidy`.

        Examples
        --------
        >>> import mixmeta_jax as mx
        >>> fit = mx.mixmeta("logor ~ ablat", S="logorvar", data=mx.load_dataset("bcg"))
        >>> fit.robust().tidy()[["term", "estimate", "df", "pvalue"]].round(3)
                  term  estimate     df  pvalue
        0  (Intercept)     0.301  3.419   0.151
        1        ablat    -0.032  4.823   0.001
        """
        return tidying.tidy(self.fit, conf_level, self.reference)

    def __str__(self) -> str:
        return str(self.summary())

    def __repr__(self) -> str:
        return f"<{self.reference.words}>"


def robust_fit(fit: FittedModel, cluster: Any, kind: str, test: str, df: float | None) -> RobustFit:
    """The fit with cluster-robust errors; see `Fit.robust`."""
    gates.choice(kind, "type", RobustType)
    gates.choice(test, "test (with robust errors)", RobustTest)
    if df is not None and test != "t":
        raise InputError(
            f"df={gates.described(df)} belongs to test='t', not to test='{test}': leave it out."
        )
    refuse_without_estimates(fit)
    codes, labels, name = clusters_of(fit, cluster)
    J, P = len(labels), len(fit.estimate.beta)
    if kind == "CR1p" and J <= P:
        raise InputError(
            f"type='CR1p' divides by the {J} clusters less the {P} coefficients: choose 'CR2'."
        )
    Psi = [P_level[None] for P_level in fit.Psi_by_level]
    with one_thread():
        found = cluster_sums(fit.design, Psi, codes, kind)
    if found.determined.any():
        which = labels[int(np.argmax(found.determined[0]))]
        raise InputError(
            f"The cluster {which!r} of '{name}' determines a coefficient by itself: type='CR3' "
            "leaves each cluster out, and does not exist. Choose 'CR2'."
        )
    vcov = found.vcov[0]
    vcov = 0.5 * (vcov + vcov.T)
    words = f"cluster-robust ({kind}, {J} clusters of {name})"
    names = fit.frame.coef_names()
    reference: RobustNormal
    if test == "z":
        reference = RobustNormal("z", vcov, (), found, words)
    elif test == "t":
        values = np.full(P, float(J - 1) if df is None else positive_df(df))
        title = f"{words}, t distribution"
        reference = RobustT("t", vcov, (), values, title, found)
    else:
        title = f"{words}, t with Satterthwaite's df, joint tests HTZ"
        reference = Robust(test, vcov, (), found, title)
    notes = _notes(reference, names)
    return RobustFit(fit, frozen(replace(reference, notes=notes)), kind, name, J, notes)


def _notes(reference: RobustNormal, names: list[str]) -> tuple[str, ...]:
    """Which coefficients have no robust error, and which too few degrees of freedom."""
    L = np.eye(len(names))
    lost = np.isnan(reference.se(L))
    notes = []
    if lost.any():
        which = _listed([term for term, gone in zip(names, lost, strict=True) if gone])
        notes.append(f"Without residuals in their clusters, so without a robust error: {which}.")
    if isinstance(reference, Robust):
        few = [
            f"{term} ({own:.2f})"
            for term, own, gone in zip(names, reference.df(L), lost, strict=True)
            if own < FEW and not gone
        ]
        if few:
            notes.append(
                f"Fewer than {FEW:g} degrees of freedom, where p-values and intervals are not to "
                f"be relied on: {_listed(few)}."
            )
    return tuple(notes)


def _listed(words: list[str]) -> str:
    more = [] if len(words) <= LISTED else [f"and {len(words) - LISTED} more"]
    return ", ".join(words[:LISTED] + more)


def clusters_of(fit: FittedModel, cluster: Any) -> tuple[np.ndarray, list[Any], str]:
    """Cluster of each unit, 0…J−1, the labels of the clusters, and what they are called.

    Raises
    ------
    InputError
        For values that are missing or of another length, a column that is not there, clusters that
        cut an outer group, or a single cluster.
    """
    frame = fit.frame
    outer = outer_groups(fit.design)
    outermost = frame.levels[0]
    if cluster is None:
        first = np.unique(outer, return_index=True)[1]
        values: Any = [outermost.labels[code] for code in outermost.codes[first]]
        codes, labels, name = outer, list(values), outermost.name
    else:
        name = cluster if isinstance(cluster, str) else "cluster"
        given = _of_units(fit, cluster)
        try:
            codes, found = pd.factorize(given)
        except (TypeError, ValueError) as error:  # what cannot be hashed, or compared
            raise gates.refused("cluster", "made of numbers or text", cluster) from error
        # As a user reads them: an array holds numbers of numpy's.
        labels = [own.item() if isinstance(own, np.generic) else own for own in found]
        if (codes < 0).any():
            row = row_label(frame.index, int(np.argmin(codes)))
            raise InputError(f"The cluster '{name}' is missing in row {row!r}.")
        _refuse_cut(frame.levels[0], outer, codes, labels, name)
    if len(labels) < 2:
        raise InputError(
            f"There is a single cluster of '{name}': robust errors compare clusters, of which two "
            "are the fewest."
        )
    return np.asarray(codes), labels, name


def _refuse_cut(
    level: Any, outer: np.ndarray, codes: np.ndarray, labels: list[Any], name: str
) -> None:
    first = np.zeros(int(outer.max()) + 1, int)
    first[outer[::-1]] = codes[::-1]
    apart = first[outer] != codes
    if apart.any():
        unit = int(np.argmax(apart))
        group = level.labels[level.codes[unit]]
        raise InputError(
            f"The clusters of '{name}' cut the outer group {group!r} of '{level.name}': its rows "
            f"lie in {labels[first[outer[unit]]]!r} and {labels[codes[unit]]!r}. Its outcomes are "
            "correlated in the model: clusters are outer groups, or unions of them."
        )


def _of_units(fit: FittedModel, cluster: Any) -> Any:
    """The values of a level, a column or an array for each fitted unit."""
    frame, data = fit.frame, fit._arguments["data"]
    if isinstance(cluster, str):
        for level in frame.levels[: fit.n_levels]:
            if level.name == cluster:
                labels = pd.Series(level.labels, dtype=object)
                return labels.iloc[level.codes].to_numpy()
        return fit.columns_at_units([cluster], "cluster")[cluster].to_numpy()
    subset = fit._arguments["subset"]
    if data is not None:
        table = as_pandas(data)
    else:
        n = len(frame.kept) if subset is None else len(np.asarray(subset))
        table = pd.DataFrame(index=range(n))
    refuse_reordered(cluster, table.index, "cluster")
    wanted = "a level, a column of the data, or a value for each of its rows"
    values = pd.Series(gates.listed(cluster, "cluster", wanted), dtype=object)
    if len(values) != len(table):
        raise InputError(
            f"cluster has {len(values)} values, but the data have {len(table)} rows: give one for "
            "each row of the data."
        )
    chosen = chosen_rows(subset, table)
    return values.to_numpy()[chosen][frame.kept]
