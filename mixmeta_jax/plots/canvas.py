"""What all pictures share: axes, colours that survive grey print, scales, columns of the data.

A picture is a function of a fit that takes ``ax=`` and returns Axes; it draws a tidy frame, which
``return_data=True`` returns beside the Axes. Nothing is shown or saved, and no setting of
matplotlib is changed.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.errors import InputError
from mixmeta_jax.estimation.start import error_variances
from mixmeta_jax.fits.fitted_model import FittedModel, checked_fit
from mixmeta_jax.inference.prediction import between_variance

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, in an order in which neighbours differ in lightness too.
INK = "#222222"
SOFT = "#767676"
FAINT = "#D9D9D9"
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")

READABLE = 4.5
"""Size of text in points below which names of rows are left out."""

CHARACTER = 0.62
"""Width of a character over its size, on the safe side."""

SCALES = {None: lambda x: x, "exp": np.exp}


def _optional_text(value: Any, what: str) -> None:
    if value is not None:
        gates.text(value, what)


def _axes_or_none(ax: Any, what: str) -> None:
    if ax is not None:
        given_axes(ax, what)


GATES: dict[str, Callable[[Any, str], Any]] = {
    "fit": checked_fit,
    **dict.fromkeys(("return_data", "blup", "ci", "pi", "progress"), gates.flag),
    **dict.fromkeys(("xlabel", "ylabel"), _optional_text),
    "transform": lambda value, what: gates.choice(value, what, SCALES),
    "conf_level": gates.fraction,
    "reference": gates.number,
    "ax": _axes_or_none,
}
"""What arguments may be that have one meaning in all pictures."""

Draw = TypeVar("Draw", bound=Callable[..., Any])


def picture(draw: Draw) -> Draw:
    """A picture whose arguments are looked at before anything is computed."""
    signature = inspect.signature(draw)

    @functools.wraps(draw)
    def checked(*args: Any, **options: Any) -> Any:
        for name, value in signature.bind(*args, **options).arguments.items():
            if name in GATES:
                GATES[name](value, name)
        return draw(*args, **options)

    return cast(Draw, checked)


def require_matplotlib() -> None:
    """Raise `InputError` where matplotlib is not installed."""
    try:
        import matplotlib.axes  # noqa: F401
    except ImportError as error:
        raise InputError(
            "Pictures need matplotlib, which is not installed: pip install 'mixmeta_jax[plot]'."
        ) from error


def new_axes(ax: Any, width: float, height: float, count: int = 1) -> list[Axes]:
    """The user's axes, or new ones side by side: a list of ``count``.

    Parameters
    ----------
    ax
        None, one Axes, or a sequence of them.
    width, height
        Size of a new figure in inches.
    count
        How many the picture needs.

    Raises
    ------
    InputError
        Where matplotlib is not installed, or the axes are too few or something else.
    """
    if ax is None:
        return list(_new_figure(width, height, count))
    given = given_axes(ax)
    if len(given) != count:
        wanted = "one matplotlib Axes" if count == 1 else f"a sequence of {count} matplotlib Axes"
        raise gates.refused("ax", wanted, ax)
    return given


def given_axes(ax: Any, what: str = "ax") -> list[Axes]:
    """The user's axes as a list, whatever their number."""
    require_matplotlib()
    from matplotlib.axes import Axes as AxesType

    try:
        given = [ax] if isinstance(ax, AxesType) else list(np.ravel(np.asarray(ax, dtype=object)))
    except Exception:  # what an object of the user's own raises
        given = [None]
    if not all(isinstance(one, AxesType) for one in given):
        raise gates.refused(what, "one matplotlib Axes or a sequence of them", ax)
    return given


def _new_figure(width: float, height: float, count: int) -> np.ndarray:
    require_matplotlib()
    from matplotlib import pyplot

    _, axes = pyplot.subplots(
        1, count, figsize=(width * count, height), squeeze=False, layout="constrained"
    )
    return axes[0]


def grid_of_axes(
    ax: Any, count: int, width: float, height: float, share: bool = False
) -> list[Axes]:
    """The user's axes, or new ones in rows and columns: a list of ``count``.

    Parameters
    ----------
    ax, count
        As in `new_axes`.
    width, height
        Size of each of the new axes in inches.
    share
        Whether they have the same limits.
    """
    if ax is not None or count == 1:
        return new_axes(ax, width * 1.4, height * 1.3, count)
    require_matplotlib()
    from matplotlib import pyplot

    columns = int(np.ceil(np.sqrt(count)))
    rows = int(np.ceil(count / columns))
    _, axes = pyplot.subplots(
        rows,
        columns,
        figsize=(width * columns, height * rows),
        sharex=share,
        sharey=share,
        squeeze=False,
        layout="constrained",
    )
    flat = list(axes.ravel())
    for unused in flat[count:]:
        unused.set_axis_off()
    for lowest in flat[max(0, count - columns) : count]:
        # Of shared axes only the last row has numbers, and it may have gaps.
        lowest.tick_params(labelbottom=True)
    return flat[:count]


def tidied(ax: Axes, grid: str | None = None) -> None:
    """Axes without a box, with a faint grid along "x", "y" or neither."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(SOFT)
    ax.tick_params(color=SOFT)
    ax.set_axisbelow(True)
    if grid is not None:
        ax.grid(axis="x" if grid == "x" else "y", color=FAINT, linewidth=0.7)


def transformed(transform: str | None) -> Any:
    """The function of a transform's name."""
    return SCALES[gates.choice(transform, "transform", SCALES)]


def ratio_axis(axis: Any) -> None:
    """Ticks that are plain numbers (0.25, 0.5, 1, 2, 4) for an axis that is logarithmic already."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = axis.get_view_interval()
    axis.set_major_locator(FixedLocator(ratio_ticks(low, high)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))


def ratio_ticks(low: float, high: float) -> list[float]:
    """Between two and seven round numbers from ``low`` to ``high``, even on a log scale."""
    for base in (
        [1.0, 1.1, 1.2, 1.35, 1.5, 1.75, 2, 2.5, 3, 4, 5, 6, 8],
        [1, 1.5, 2, 3, 5, 7],
        [1, 2, 5],
        [1, 3],
        [1],
    ):
        powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
        ticks = np.unique(np.outer(powers, base))
        ticks = ticks[(ticks >= low * (1 - 1e-9)) & (ticks <= high * (1 + 1e-9))]
        if len(ticks) <= 7:
            break
    step = int(np.ceil(len(ticks) / 7)) or 1
    return list(ticks[::step])


def user_columns(
    fit: FittedModel, names: Sequence[str], where: str = "the picture"
) -> pd.DataFrame:
    """Columns of the data at the fitted rows, in their order; ``where`` is what names them.

    Raises
    ------
    InputError
        For a column that is not there, or a fit that was given no data.
    """
    return fit.columns_at_units(names, where)


def row_names(fit: FittedModel, labels: Any) -> list[str]:
    """A name for each fitted row: from a column, a sequence of one per row, or the index."""
    if labels is None:
        return [str(label) for label in fit.frame.index.tolist()]
    if isinstance(labels, str):
        return [str(label) for label in user_columns(fit, [labels], "labels")[labels].tolist()]
    names = gates.listed(labels, "labels", "a column of the data, or a name for each row")
    if len(names) != fit.frame.n:
        raise InputError(f"labels has {len(names)} names for {fit.frame.n} fitted rows.")
    return [str(label) for label in names]


def fitting_size(ax: Axes, rows: float) -> float:
    """Size in points at which ``rows`` lines of text fit the height of the axes; at most 10."""
    figure = ax.get_figure(root=True)
    height = 72 * (0.0 if figure is None else figure.get_figheight()) * ax.get_position().height
    return float(min(10.0, 0.78 * height / max(rows, 1)))


def shortened(name: str, most: int = 38) -> str:
    """A name cut to what a margin holds: its end stays too, which often tells names apart."""
    if len(name) <= most:
        return name
    end = (most - 1) * 2 // 5
    return f"{name[: most - 1 - end].rstrip()}…{name[-end:].lstrip()}"


def wider(width: float, *texts: Sequence[str]) -> float:
    """A width in inches that leaves a panel its room beside columns of text.

    By the longest text of each column, at 10 points; some 20 characters are in the width already.
    """
    characters = sum(max(map(len, column), default=0) for column in texts)
    return width + max(0.0, (characters - 20) * CHARACTER * 10 / 72)


def name_points(
    ax: Axes,
    at: np.ndarray,
    names: Sequence[str],
    order: Sequence[int],
    left: Any = False,
    size: float = 8.0,
    most: int = 12,
) -> None:
    """Write names beside points where they meet no other name, those of ``order`` first.

    Parameters
    ----------
    ax
        Axes with their scales and limits.
    at
        The points, shape (n, 2), in the data's coordinates.
    names, order
        A name per point; which points, the most important first.
    left
        Whether the name stands to the left of its point: one value, or one per point.
    size
        Of the text in points.
    most
        How many names there may be.
    """
    figure = ax.get_figure(root=True)
    assert figure is not None
    ax.autoscale_view()  # or limits that follow from the data are set later
    where = ax.transData.transform(at) * 72 / figure.dpi
    sides = np.where(np.broadcast_to(left, len(at)), -1, 1)
    boxes: list[tuple[float, float, float, float]] = []
    for i in order:
        (x, y), width = where[i], CHARACTER * size * len(names[i])
        low, high = sorted((x + 4 * sides[i], x + sides[i] * (4 + width)))
        box = (low, high, y - 0.75 * size, y + 0.75 * size)
        if any(box[0] < b[1] and b[0] < box[1] and box[2] < b[3] and b[2] < box[3] for b in boxes):
            continue
        boxes.append(box)
        ax.annotate(
            names[i],
            at[i],
            xytext=(4 * sides[i], 0),
            textcoords="offset points",
            ha="left" if sides[i] > 0 else "right",
            va="center",
            fontsize=size,
            color=SOFT,
        )
        if len(boxes) == most:
            return


def one_outcome(fit: FittedModel, outcome: str | None) -> int:
    """The position of an outcome; the only one where none is named."""
    names = fit.frame.outcome_names
    if outcome is None:
        if len(names) == 1:
            return 0
        raise InputError(f"Name the outcome to draw: outcome= one of {', '.join(names)}.")
    return names.index(gates.choice(outcome, "outcome", names))


def expects_one(fit: FittedModel, members: Any = slice(None)) -> bool:
    """Whether all rows, or some, have the same expectation: no predictor nor offset differs."""
    frame = fit.frame
    return _alike((frame.X[members], frame.offset[members]))


def spreads_alike(fit: FittedModel, members: Any = slice(None)) -> bool:
    """Whether the random effects of all rows, or of some, have the same variance: no slopes."""
    return _alike([level.Z[members] for level in fit.frame.levels[: fit.n_levels]])


def _alike(matrices: Sequence[np.ndarray]) -> bool:
    return all(bool((own == own[:1]).all()) for own in matrices)


def marker_areas(weights: np.ndarray, largest: float = 160.0) -> np.ndarray:
    """Areas of markers in square points, proportional to the weights of what is drawn."""
    top = np.nanmax(weights) if np.isfinite(weights).any() else 1.0
    return np.maximum(largest * weights / top, 4.0)


def known_variances(fit: FittedModel) -> np.ndarray:
    """Diagonals of S, shape (n, k), NaN where the outcome is missing."""
    return np.where(np.isfinite(fit.frame.y), error_variances(fit.design), np.nan)


def marginal_variances(fit: FittedModel) -> np.ndarray:
    """Diagonals of ZΨZᵀ + S, shape (n, k), NaN where the outcome is missing."""
    n, k = fit.frame.n, fit.frame.k
    Z = [level.Z for level in fit.frame.levels[: fit.n_levels]]
    between = between_variance(Z, fit.Psi_by_level, n, k)
    return known_variances(fit) + np.diagonal(between, axis1=1, axis2=2)
