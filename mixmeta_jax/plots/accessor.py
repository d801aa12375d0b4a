"""``fit.plot``: the pictures of a fit as its methods."""

from __future__ import annotations

from functools import update_wrapper
from typing import Any

from mixmeta_jax import plots
from mixmeta_jax.errors import InputError

OF_FITS = tuple(name for name in plots.__all__ if name not in ("network", "refits"))
"""Pictures that take a fit; the others take frames."""


class Plots:
    """Pictures of a fit: ``fit.plot.forest()`` is ``mx.plots.forest(fit)``, and so on.

    Attributes
    ----------
    baujat, bubble, caterpillar, ellipse, forest, funnel, gosh, orchard, qq, radial, response, \
structure
        The functions of `mixmeta_jax.plots`, without their first argument.
    """

    def __init__(self, fit: Any) -> None:
        self._fit = fit

    def __getattr__(self, name: str) -> Any:
        if name not in OF_FITS:
            raise AttributeError(f"A fit has no picture '{name}': it has {', '.join(OF_FITS)}.")
        picture, fit = getattr(plots, name), self._fit

        def drawn(*args: Any, **options: Any) -> Any:
            return picture(fit, *args, **options)

        return update_wrapper(drawn, picture)

    def __dir__(self) -> list[str]:
        return list(OF_FITS)

    def __call__(self, *args: Any, **options: Any) -> Any:
        raise InputError(f"Choose a picture: fit.plot.{', fit.plot.'.join(OF_FITS)}.")
