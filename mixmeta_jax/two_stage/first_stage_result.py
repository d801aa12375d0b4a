"""The first stage: coefficients and covariances of all locations, and what they stand for."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.errors import InputError, shown
from mixmeta_jax.status import Status
from mixmeta_jax.two_stage.bases import Basis
from mixmeta_jax.two_stage.batches import ControlEstimates
from mixmeta_jax.two_stage.lags import at_exposure, over_lags, read_lags


@dataclass(frozen=True, repr=False, eq=False)
class FirstStage(Mapping):
    """The regressions of all locations, from `first_stage`.

    It is a mapping {location: (coefficients, covariance)} of the locations whose regression
    converged, which `pool` takes. The tables hold every location, with NaN where it did not.

    Attributes
    ----------
    coef
        Coefficients of the basis of the exposure, reduced over the lags: a row per location.
    vcov
        Their covariances, shape (n, k, k), in the rows' order.
    full_coef, full_vcov
        The same of the cross-basis, before the reduction: ``b1.l1``, ``b1.l2``, ...
    bases
        {location: basis of the exposure}: called with exposures (m,), it gives (m, k). After a
        reduction at one exposure it is the basis of the lag.
    lag_basis
        Basis of the lag; None without lags.
    lags
        The first and the last lag.
    locations
        A row per location: ``status``, ``message``, ``n_rows``, ``n_used`` (rows in which nothing
        is missing), ``n_columns``, ``df_resid``, ``dispersion``, ``deviance``, ``qaic``,
        ``n_iter``. ``qaic`` is −2 log L + 2 φ p of p columns, with the dispersion φ of the
        quasi-families and 1 otherwise, Akaike's criterion then: its sum over the locations
        compares knots, lags and controls.
    family
        That of the outcome.
    reduction
        What ``coef`` are: "overall", "lag 7", "at 30".

    Examples
    --------
    >>> import numpy as np, pandas as pd, mixmeta_jax as mx
    >>> x = np.arange(20.0)
    >>> data = pd.DataFrame({"city": "Rome", "heat": x, "deaths": 2 * x + (x % 2)})
    >>> first = mx.first_stage(data, "city", "deaths", "heat", "linear()", family="gaussian")
    >>> first.coef.round(2).to_dict("index"), first.reduction
    ({'Rome': {'b1': 2.01}}, 'overall')
    """

    coef: pd.DataFrame
    vcov: np.ndarray
    full_coef: pd.DataFrame
    full_vcov: np.ndarray
    bases: Mapping[Any, Callable]
    lag_basis: Basis | None
    lags: tuple[int, int]
    locations: pd.DataFrame
    family: str
    reduction: str
    series: Mapping[Any, tuple[np.ndarray, np.ndarray]]
    exposure_bases: Mapping[Any, Callable]
    controls: Mapping[Any, ControlEstimates]

    def __len__(self) -> int:
        return len(self._converged)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._converged)

    def __getitem__(self, location: Any) -> tuple[pd.Series, pd.DataFrame]:
        """Coefficients, shape (k,), and covariance, shape (k, k), of a converged location."""
        try:
            place = self._converged[location]
        except TypeError as error:  # what cannot be hashed
            raise KeyError(location) from error
        names = self.coef.columns
        return self.coef.iloc[place], pd.DataFrame(self.vcov[place], index=names, columns=names)

    @cached_property
    def _places(self) -> dict[Any, int]:
        """The rows of all locations."""
        return {label: i for i, label in enumerate(self.locations.index.tolist())}

    @cached_property
    def _converged(self) -> dict[Any, int]:
        """The rows of those that converged, in order."""
        ended = (self.status == Status.CONVERGED).to_numpy()
        return {label: i for label, i in self._places.items() if ended[i]}

    @property
    def status(self) -> pd.Series:
        """How each location ended: `Status`."""
        return self.locations["status"]

    @property
    def messages(self) -> pd.Series:
        """Why a location failed, in a sentence; empty where it converged."""
        return self.locations["message"]

    @property
    def dispersion(self) -> pd.Series:
        """Dispersion of each location."""
        return self.locations["dispersion"]

    @property
    def df_resid(self) -> pd.Series:
        """Residual degrees of freedom of each location."""
        return self.locations["df_resid"]

    def covariance(self, location: Any) -> pd.DataFrame:
        """The covariance of a location's coefficients by name, shape (k, k).

        Parameters
        ----------
        location
            Its label.

        Examples
        --------
        >>> import numpy as np, pandas as pd, mixmeta_jax as mx
        >>> x = np.arange(20.0)
        >>> data = pd.DataFrame({"city": "Rome", "heat": x, "deaths": 2 * x + (x % 2)})
        >>> first = mx.first_stage(data, "city", "deaths", "heat", "linear()", family="gaussian")
        >>> first.covariance("Rome").shape
        (1, 1)
        """
        names = self.coef.columns
        return pd.DataFrame(self.vcov[self._place(location)], index=names, columns=names)

    @property
    def control_coef(self) -> pd.DataFrame:
        """Coefficients of the controls: a row per location, NaN for what it has not.

        The columns are those of all locations together, of which some may have more than others.
        """
        names = list(dict.fromkeys(name for own in self.controls.values() for name in own.names))
        values = np.full((len(self.locations), len(names)), np.nan)
        places = {name: j for j, name in enumerate(names)}
        for label, own in self.controls.items():
            values[self._places[label], [places[name] for name in own.names]] = own.coef
        return pd.DataFrame(values, index=self.locations.index, columns=names)

    def control_covariance(self, location: Any) -> pd.DataFrame:
        """The covariance of the coefficients of a location's controls by name, shape (q, q).

        Parameters
        ----------
        location
            Its label.

        Raises
        ------
        InputError
            For an unknown location, and one whose regression failed.

        Examples
        --------
        >>> import numpy as np, pandas as pd, mixmeta_jax as mx
        >>> x = np.arange(20.0)
        >>> data = pd.DataFrame({"city": "Rome", "heat": x, "deaths": 2 * x + (x % 2)})
        >>> first = mx.first_stage(data, "city", "deaths", "heat", "linear()", family="gaussian")
        >>> first.control_coef.round(2).to_dict("index"), first.control_covariance("Rome").shape
        ({'Rome': {'(Intercept)': 0.43}}, (1, 1))
        """
        label = self.locations.index.tolist()[self._place(location)]
        if label not in self.controls:
            raise InputError(
                f"location {shown(repr(label), 40)} has no coefficients: {self.messages[label]}"
            )
        own = self.controls[label]
        return pd.DataFrame(own.vcov, index=own.names, columns=own.names)

    def exposure(self, location: Any) -> np.ndarray:
        """The exposures of a location in order, shape (n,), NaN where missing.

        Parameters
        ----------
        location
            Its label.

        Returns
        -------
        ndarray
            A value per step of time, so that lags are differences of positions: with ``time``,
            steps without a row are NaN.

        Examples
        --------
        >>> import numpy as np, pandas as pd, mixmeta_jax as mx
        >>> x = np.arange(20.0)
        >>> data = pd.DataFrame({"city": "Rome", "heat": x, "deaths": 2 * x + (x % 2)})
        >>> first = mx.first_stage(data, "city", "deaths", "heat", "linear()", family="gaussian")
        >>> first.exposure("Rome")[:3]
        array([0., 1., 2.])
        """
        return self.series[self.locations.index.tolist()[self._place(location)]][0]

    def outcome(self, location: Any) -> np.ndarray:
        """The outcomes of a location in the order of `exposure`, shape (n,), NaN where missing.

        Parameters
        ----------
        location
            Its label.

        Examples
        --------
        >>> import numpy as np, pandas as pd, mixmeta_jax as mx
        >>> x = np.arange(20.0)
        >>> data = pd.DataFrame({"city": "Rome", "heat": x, "deaths": 2 * x + (x % 2)})
        >>> first = mx.first_stage(data, "city", "deaths", "heat", "linear()", family="gaussian")
        >>> first.outcome("Rome")[:3]
        array([0., 3., 4.])
        """
        return self.series[self.locations.index.tolist()[self._place(location)]][1]

    def reduce(self, lag: Any = None, at: Any = None, reference: Any = None) -> FirstStage:
        """The coefficients reduced in another way.

        Parameters
        ----------
        lag
            A lag, or the first and the last of some: the coefficients of the exposure there,
            summed over them. None, without ``at``, for all lags.
        at
            An exposure: the coefficients of the basis of the lag there, for every location.
        reference
            With ``at``: the exposure that it is compared with. Without one, the effects are those
            against where the basis is zero.

        Returns
        -------
        FirstStage
            With the same locations and cross-bases.

        Raises
        ------
        InputError
            For lags beyond those of the regressions, exposures that are no number, and one that is
            its own reference.

        Warns
        -----
        UserWarning
            Where ``at`` or ``reference`` lies outside the exposures of some locations.

        Examples
        --------
        >>> import numpy as np, pandas as pd, mixmeta_jax as mx
        >>> rng = np.random.default_rng(1)
        >>> data = pd.DataFrame({"city": np.repeat(["a", "b"], 200), "heat": rng.normal(size=400),
        ...                      "deaths": rng.poisson(20, 400)})
        >>> first = mx.first_stage(data, by="city", outcome="deaths", exposure="heat",
        ...                        basis="linear()", lag=2)
        >>> bool(np.allclose(sum(first.reduce(lag=l).coef for l in range(3)), first.coef))
        True
        """
        if at is not None:
            return self._reduced_at(at, lag, reference)
        if reference is not None:
            raise InputError("reference is the exposure that at is compared with: give at too.")
        first, last = self._lags_of(lag)
        name = "overall"
        if (first, last) != self.lags:
            name = f"lag {first}" if first == last else f"lags {first} to {last}"
        maps = [over_lags(self._lag_values(first, last), self._k)] * len(self.locations)
        return self._mapped(maps, self._names("b", self._k), self.exposure_bases, name)

    def _reduced_at(self, at: Any, lag: Any, reference: Any) -> FirstStage:
        if lag is not None:
            raise InputError("lag and at are two ways to reduce: give one of them.")
        if self.lag_basis is None:
            raise InputError("at gives effects over lags, but there are none: lag is None.")
        x = [gates.number(at, "at")]
        if reference is not None:
            x.append(gates.number(reference, "reference"))
            if x[0] == x[1]:
                raise InputError(
                    f"at and reference are both {x[0]:g}: an exposure has no effect against itself."
                )
        K = self.full_coef.shape[1] // self._k
        self._tell_beyond(x)
        maps, bases = [], {}
        for label in self.locations.index:
            basis = self.exposure_bases.get(label)
            b = (
                np.full((len(x), self._k), np.nan)
                if basis is None
                else np.asarray(basis(np.array(x)))
            )
            maps.append(at_exposure(b[0] - b[1] if len(x) == 2 else b[0], K))
            bases[label] = self.lag_basis
        name = f"at {x[0]:g}" + (f" against {x[1]:g}" if len(x) == 2 else "")
        return self._mapped(maps, self._names("l", K), bases, name)

    def _tell_beyond(self, x: list[float]) -> None:
        """Warn where exposures lie outside those of some locations that converged."""
        for value, what in zip(x, ("at", "reference"), strict=False):
            ranges = {}
            for label in self:
                seen = self.series[label][0]
                ranges[label] = float(np.nanmin(seen)), float(np.nanmax(seen))
            beyond = [label for label, (low, high) in ranges.items() if not low <= value <= high]
            if beyond:
                low, high = ranges[beyond[0]]
                warnings.warn(
                    f"{what}={value:g} lies outside the exposures of {len(beyond)} of {len(self)} "
                    f"location(s), first of {shown(repr(beyond[0]), 40)}, which has {low:g} to "
                    f"{high:g}: their effects there are extrapolated by the basis.",
                    stacklevel=4,
                )

    def _mapped(
        self, maps: list[np.ndarray], names: list[str], bases: Mapping[Any, Callable], name: str
    ) -> FirstStage:
        M = np.stack(maps)
        coef = np.einsum("nij,nj->ni", M, self.full_coef.to_numpy())
        vcov = M @ self.full_vcov @ M.transpose(0, 2, 1)
        table = pd.DataFrame(coef, index=self.locations.index, columns=names)
        return replace(self, coef=table, vcov=vcov, bases=bases, reduction=name)

    @property
    def _k(self) -> int:
        width = 1 if self.lag_basis is None else self.lag_basis.width
        return self.full_coef.shape[1] // width

    def _lags_of(self, lag: Any) -> tuple[int, int]:
        if lag is None:
            return self.lags
        first, last = read_lags(lag, "lag")
        if not self.lags[0] <= first <= last <= self.lags[1]:
            raise InputError(
                f"lag is {shown(lag)}, but the regressions hold the lags {self.lags[0]} to "
                f"{self.lags[1]}."
            )
        return first, last

    def _lag_values(self, first: int, last: int) -> np.ndarray:
        if self.lag_basis is None:
            return np.ones((1, 1))
        return self.lag_basis(np.arange(first, last + 1.0))

    @staticmethod
    def _names(letter: str, count: int) -> list[str]:
        return [f"{letter}{i + 1}" for i in range(count)]

    def _place(self, location: Any) -> int:
        return self._places[gates.label(location, "location", list(self._places))]

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        n, failed = len(self.locations), len(self.locations) - len(self)
        used, rows = int(self.locations["n_used"].sum()), int(self.locations["n_rows"].sum())
        lags = "" if self.lag_basis is None else f", lags {self.lags[0]} to {self.lags[1]}"
        lines = [
            f"First stage of {n} location(s): {self.family}, {self.coef.shape[1]} coefficients "
            f"({self.reduction}){lags}",
            f"{used:,} of {rows:,} rows used; {rows - used:,} miss a value or a lag",
        ]
        if failed:
            bad = self.locations[self.status != Status.CONVERGED]
            lines.append(f"{failed} location(s) failed, of which the first:")
            lines += [
                f"  {shown(repr(label), 30)} ({status}): {message}"
                for label, status, message in zip(
                    bad.index[:3].tolist(), bad["status"], bad["message"], strict=False
                )
            ]
        return "\n".join(lines)
