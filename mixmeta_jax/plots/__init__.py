"""Pictures of fits, by matplotlib: each takes ``ax=`` and returns Axes, and shows nothing.

Examples
--------
>>> import mixmeta_jax as mx
>>> fit = mx.mixmeta("logor", S="logorvar", data=mx.load_dataset("bcg"))
>>> ax = mx.plots.forest(fit, transform="exp")
>>> ax.get_xscale()
'log'
"""

from mixmeta_jax.plots.bias import funnel, qq, radial
from mixmeta_jax.plots.effects import caterpillar, ellipse, structure
from mixmeta_jax.plots.forest import forest
from mixmeta_jax.plots.influence import baujat, gosh, influence
from mixmeta_jax.plots.networks import network, refits
from mixmeta_jax.plots.profiles import curves, profile
from mixmeta_jax.plots.regression import bubble, orchard, response

__all__ = [
    "baujat",
    "bubble",
    "caterpillar",
    "curves",
    "ellipse",
    "forest",
    "funnel",
    "gosh",
    "influence",
    "network",
    "orchard",
    "profile",
    "qq",
    "radial",
    "refits",
    "response",
    "structure",
]
