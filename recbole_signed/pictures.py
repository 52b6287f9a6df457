"""Figures as files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recbole_signed.errors import MissingExtraError
from recbole_signed.files import replacing


@contextmanager
def picture(path: Path, width: float, height: float, style: Mapping[Any, Any] | None = None) -> Iterator[Any]:
    """Give an empty matplotlib figure, and write it as PNG once it is drawn: as a whole or not at all.

    The file holds nothing that differs from day to day.

    Args:
        path: of the file.
        width: in inches.
        height: in inches.
        style: matplotlib's settings while it is drawn.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("drawing figures", "plots") from error
    with rc_context(dict(style or {})):
        figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        with replacing(path) as unfinished:
            figure.savefig(unfinished, format="png", metadata={"Software": "recbole-signed"})
