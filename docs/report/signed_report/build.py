"""Builds the report: the Typst sources in ``docs/report``, the figures and the committed results become a PDF."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from recbole_signed import __version__
from recbole_signed.errors import MissingExtraError, UsageError
from recbole_signed.files import replacing
from recbole_signed.plugin import registry
from recbole_signed.plugin.facts import STOCK, display_name, family
from signed_report.figures import draw_all
from signed_report.prose import check_folder
from signed_report.results import MAIN, Results, read_results

SOURCES = Path("docs/report")
NAME = "report.pdf"
_PANIC = re.compile(r'panicked with: "?(.*?)"?$', re.DOTALL)


def build_report(root: Path, output: Path) -> Path:
    """Build ``report.pdf`` in ``output``, with its figures beside it as PDF.

    Args:
        root: a clone of the repository.
        output: a folder, made if absent.

    Returns:
        the path of the PDF.

    Raises:
        UsageError: the sources hold a number that is no result, name a result that is not there, or are no Typst.
        MissingExtraError: Typst or matplotlib is not installed.
    """
    sources = root / SOURCES
    if not (sources / "main.typ").is_file():
        raise UsageError(f"{root.resolve()} has no {SOURCES / 'main.typ'}; give --root, a clone of the repository.")
    refuse_numbers(sources)
    results = read_results(root)
    figures = draw_all(results, output, ("pdf",))
    pdf = compile_report(sources, values(results, figures), figures)
    path = output / NAME
    with replacing(path) as unfinished:
        unfinished.write_bytes(pdf)
    return path


def refuse_numbers(sources: Path) -> None:
    """See that no section holds a number of its own.

    Raises:
        UsageError: with the file, the line and the number.
    """
    stray = check_folder(sources)
    if stray:
        more = f" ({len(stray) - 5} more)" if len(stray) > 5 else ""
        raise UsageError(
            f"the report must take its numbers from result files, but these are written in its text: "
            f"{'; '.join(stray[:5])}{more}; use a function of lib.typ."
        )


def values(results: Results, figures: Iterable[Path]) -> dict[str, Any]:
    """Return what the sources read: the results, families and written names of models, and which figures there are."""
    drawn = {path.stem: True for path in figures if path.suffix == ".pdf"}
    families = {model: family(model) for model in (*registry.models(), *STOCK)}
    labels = {model: display_name(model) for model in families}
    more = {"families": families, "labels": labels, "figures": drawn, "main": MAIN, "version": __version__}
    return {**results.as_dict(), **more}


def compile_report(sources: Path, document: dict[str, Any], figures: Iterable[Path]) -> bytes:
    """Return the PDF of the sources with these values and figures; the fonts are those that Typst brings.

    Raises:
        UsageError: the sources name a result that is not there, or are no Typst.
        MissingExtraError: Typst is not installed.
    """
    try:
        import typst
    except ImportError as error:
        raise MissingExtraError("building the report", "report") from error
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "report"
        shutil.copytree(sources, work, ignore=shutil.ignore_patterns("results", "*.pdf", "figures"))
        (work / "values.json").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
        (work / "figures").mkdir()
        for figure in figures:
            shutil.copy(figure, work / "figures")
        try:
            return bytes(typst.compile(str(work / "main.typ"), root=str(work), ignore_system_fonts=True))
        except typst.TypstError as error:
            raise UsageError(_sentence(error)) from error


def _sentence(error: Any) -> str:
    """Say what the compiler says in one line, with the place in the sources that led there."""
    message = str(getattr(error, "message", "") or error).strip()
    panic = _PANIC.search(message)
    if panic:
        message = panic[1].replace('\\"', '"')
    trace = " ".join(str(call) for call in getattr(error, "trace", None) or [])
    place = re.search(r"(sections/[\w.-]+\.typ|[\w-]+\.typ)(?::(\d+))?", trace)
    where = f" ({place[0]})" if place else ""
    return f"the report can't be built: {' '.join(message.split())[:400]}{where}."
