"""What commands share: the result alone on standard output, as one JSON document or text, and lists of names."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from recbole_signed.errors import MissingExtraError


def _model_names(incomplete: str) -> list[str]:
    from recbole_signed.plugin import registry

    return sorted(name for name in registry.known_model_names() if name.lower().startswith(incomplete.lower()))


def _dataset_names(incomplete: str) -> list[str]:
    from recbole_signed.plugin.configuration import DATA_ROOT, dataset_names

    return [name for name in dataset_names(Path(DATA_ROOT)) if name.startswith(incomplete)]


MODEL: Any = typer.Option(
    "--model", "-m", help="Model, by its name in 'recbole-signed models'.", autocompletion=_model_names
)
DATASET: Any = typer.Option("--dataset", "-d", help="Name of a data set folder.", autocompletion=_dataset_names)
Dataset = Annotated[str, DATASET]
Settings = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="RecBole keys, e.g. eval_args.order=TO.")
]
Files = Annotated[
    list[str] | None, typer.Option("--config", "-c", help="RecBole yaml file; may be repeated, or a comma list.")
]
Seed = Annotated[int | None, typer.Option(help="RecBole's seed: decides a random split and the start.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on standard output.")]


@contextlib.contextmanager
def stdout_for_result() -> Iterator[None]:
    """Send everything that is written to standard output to standard error, from C code and child processes too."""
    sys.stdout.flush()
    python_stdout, saved = sys.stdout, os.dup(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stdout = python_stdout
        os.dup2(saved, 1)
        os.close(saved)


_JSON_CONTROLS = {code: f"\\u{code:04x}" for code in range(127, 160)}


def print_json(document: Any) -> None:
    """Write one JSON document."""
    text = json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False)
    sys.stdout.write(text.translate(_JSON_CONTROLS) + "\n")
    sys.stdout.flush()


def show(document: Any, as_json: bool, text: Callable[[], str]) -> None:
    """Print a result: as one JSON document, or as text."""
    if as_json:
        print_json(document)
    else:
        typer.echo(text(), nl=False)


def note_of_missing_extra(draw: Callable[[], object]) -> str | None:
    """Draw figures; where their library is not installed, say so on standard error and return the sentence."""
    try:
        draw()
    except MissingExtraError as error:
        sys.stderr.write(f"recbole-signed: note: {error}\n")
        return str(error)
    return None


def terminal_width() -> int | None:
    """Columns of the terminal; None (as wide as needed) where the output is not a terminal."""
    return os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else None


def names_in(given: Iterable[str] | None) -> list[str]:
    """Return the names of an option that may be given more than once, each time with several, as in A,B or A,"B, C"."""
    rows = csv.reader(given or [], skipinitialspace=True)
    return [name.strip() for row in rows for name in row if name.strip()]
