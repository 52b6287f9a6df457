"""Figures are drawn of the results that are there, of these alone, and names in them do not cover each other."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from signed_report.cli import report
from signed_report.drawing import name_points, page, settle
from signed_report.figures import draw_all, draw_retention, draw_tradeoff
from signed_report.results import Results, read_results

from recbole_signed.cli import app as cli
from recbole_signed.errors import MissingExtraError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def results() -> Results:
    return read_results(ROOT)


def test_a_figure_is_written_as_png_and_pdf(results: Results, tmp_path: Path) -> None:
    png, pdf = draw_retention(results, tmp_path)
    assert (png.name, pdf.name) == ("retention.png", "retention.pdf")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert pdf.read_bytes().startswith(b"%PDF")
    assert png.stat().st_size > 20_000
    assert not list(tmp_path.glob(".*"))


def test_the_same_results_give_the_same_file(results: Results, tmp_path: Path) -> None:
    stream = {"ml-100k": results.streams["ml-100k"]}
    few = replace(results, streams=stream)
    first, second = (draw_retention(few, tmp_path / name, ("pdf",))[0].read_bytes() for name in "ab")
    assert first == second


def test_what_has_no_results_is_not_drawn(results: Results, tmp_path: Path) -> None:
    nothing = replace(results, tables={}, streams={}, statistics={}, kuairand={}, tradeoffs={})
    assert draw_all(nothing, tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_names_cover_neither_points_nor_each_other() -> None:
    with page(3) as figure:
        axes = figure.subplots()
        places = [(0.5, 0.5), (0.51, 0.5), (0.5, 0.51), (0.9, 0.1)]
        axes.scatter(*zip(*places, strict=True))
        axes.set(xlim=(0, 1), ylim=(0, 1))
        settle(figure)
        name_points(axes, [(f"model {n}", x, y, n == 2) for n, (x, y) in enumerate(places)] + [("", 0.9, 0.12, True)])
        boxes = [text.get_window_extent() for text in axes.texts]
        names = [text.get_text() for text in axes.texts]
    assert "model 2" in names
    assert "model 3" in names
    assert all(not box.overlaps(other) for n, box in enumerate(boxes) for other in boxes[n + 1 :])
    inside = axes.transData.transform([(0.9, 0.12)])[0]
    assert not any(box.contains(*inside) for box in boxes)


def test_a_missing_extra_is_named(results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"recbole-signed\[plots\]"):
        draw_tradeoff(results, tmp_path)


def test_the_command_refuses_what_is_no_clone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["figures", "--root", str(tmp_path)], commands=report)
    assert exit_.value.code == 2
    assert "give --root, a clone of the repository" in capsys.readouterr().err
