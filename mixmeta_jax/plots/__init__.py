"""Pictures of fits, by matplotlib: each takes ``ax=`` and returns Axes, and shows nothing."""

from mixmeta_jax.plots.bias import funnel, qq, radial
from mixmeta_jax.plots.effects import caterpillar, ellipse, structure
from mixmeta_jax.plots.forest import forest
from mixmeta_jax.plots.influence import baujat, gosh
from mixmeta_jax.plots.networks import network, refits
from mixmeta_jax.plots.regression import bubble, orchard, response

__all__ = [
    "baujat",
    "bubble",
    "caterpillar",
    "ellipse",
    "forest",
    "funnel",
    "gosh",
    "network",
    "orchard",
    "qq",
    "radial",
    "refits",
    "response",
    "structure",
]
