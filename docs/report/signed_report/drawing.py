"""What the report's figures share: the look, colours that most readers can tell apart, and how they are written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_signed.errors import MissingExtraError
from recbole_signed.files import replacing
from recbole_signed.plugin.facts import (
    FAMILY_COLOURS,
    LIKES_CLOSED,
    LIKES_TRAINED,
    OURS,
    REFERENCE,
    SIGNED_CLOSED,
    SIGNED_TRAINED,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = {
    OURS: "*",
    SIGNED_CLOSED: "s",
    SIGNED_TRAINED: "o",
    LIKES_CLOSED: "^",
    LIKES_TRAINED: "v",
    REFERENCE: "x",
}
FAMILY_STYLE = {name: (FAMILY_COLOURS[name], marker) for name, marker in _MARKERS.items()}
"""Colour and marker of each family, so that grey print tells them apart too."""
ARM_STYLE: dict[str, tuple[str, str, str]] = {
    "none": ("#999999", ":", "v"),
    "fold-in": ("#E69F00", "--", "s"),
    "online": ("#0072B2", "-", "o"),
}
LIKE, DISLIKE, NEUTRAL = "#009E73", "#D55E00", "#BBBBBB"
USER, ITEM = "#0072B2", "#E69F00"
WIDTH = 6.9
"""Inches, the width of the report's text."""
NAMES = {
    "sigformer-amazon-music": "Amazon-Music",
    "sigformer-kuairand": "KuaiRand",
    "sigformer-kuairec": "KuaiRec",
    "ml-100k-signed": "MovieLens 100K",
    "ml-latest-small": "MovieLens latest-small",
    "movietweetings": "MovieTweetings",
    "kuairand-stream": "KuaiRand stream",
    "kuairand-log": "KuaiRand log",
}
KINDS = ("png", "pdf")
_METADATA: dict[str, dict[str, Any]] = {"png": {"Software": "recbole-signed"}, "pdf": {"CreationDate": None}}
_STYLE: dict[Any, Any] = {
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.4,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.5,
    "pdf.fonttype": 42,  # letters stay letters
}


@contextmanager
def page(height: float) -> Iterator[Figure]:
    """Give an empty figure of the report's width and ``height`` inches, in the report's look.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("drawing figures", "plots") from error
    with rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def save(figure: Figure, folder: Path, name: str, kinds: Sequence[str] = KINDS) -> list[Path]:
    """Write ``NAME.png`` and ``NAME.pdf``, each as a whole or not at all, without the date of the day."""
    folder.mkdir(parents=True, exist_ok=True)
    settle(figure)
    written = []
    for kind in kinds:
        path = folder / f"{name}.{kind}"
        with replacing(path) as unfinished:
            figure.savefig(unfinished, format=kind, dpi=200, metadata=_METADATA[kind])
        written.append(path)
    return written


def settle(figure: Figure) -> None:
    """Lay the figure out, once: else it is done again for every file."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")


def name_points(axes: Axes, points: list[tuple[str, float, float, bool]], size: float = 5.2) -> None:
    """Write names beside points where they cover neither a point nor another name; a name without room is left out.

    Args:
        axes: of a figure that has been laid out, with its limits and scales set.
        points: name (may be empty), x, y, and whether it comes first (the others follow in their order).
        size: of the letters, in points.
    """
    from matplotlib.transforms import Bbox

    figure = axes.get_figure()
    assert figure is not None
    renderer: Any = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    pixel = figure.dpi / 72
    places: Any = axes.transData.transform([(x, y) for _, x, y, _ in points]) if points else []
    taken = [Bbox.from_bounds(x - 1.8 * pixel, y - 1.8 * pixel, 3.6 * pixel, 3.6 * pixel) for x, y in places]
    frame = axes.get_window_extent(renderer).padded(-pixel)  # the axis is a line, too
    for index in sorted(range(len(points)), key=lambda number: not points[number][3]):
        name, x, y, first = points[index]
        if not name:  # only keeps others away
            continue
        for across, up, horizontal, vertical in _AROUND_FIRST if first else _AROUND:
            text = axes.annotate(
                name, (x, y), (across, up), textcoords="offset points", fontsize=size, ha=horizontal, va=vertical
            )
            text.set_in_layout(False)
            box = text.get_window_extent(renderer)
            others = [*taken[:index], *taken[index + 1 :]]
            if frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1) and not box.count_overlaps(others):
                taken.append(box)
                break
            text.remove()


_AROUND = (
    (3, 0, "left", "center"),
    (-3, 0, "right", "center"),
    (0, 3, "center", "bottom"),
    (0, -3, "center", "top"),
    (2.5, 2.5, "left", "bottom"),
    (2.5, -2.5, "left", "top"),
    (-2.5, 2.5, "right", "bottom"),
    (-2.5, -2.5, "right", "top"),
)
_AROUND_FIRST = tuple((reach * across, reach * up, *align) for reach in (1.6, 1) for across, up, *align in _AROUND)
"""Of the points that come first: beside a star, or closer. A name farther away would be taken for another point's."""
