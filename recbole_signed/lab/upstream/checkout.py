"""Puts lines into files of a RecBole checkout, each once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from recbole_signed.errors import UsageError

TESTS = "tests/model/test_model_auto.py"
GUIDE = "docs/source/user_guide/model_intro.rst"
LIST = "asset/model_list.json"


class Kind:
    """A kind of RecBole's models, ``general`` or ``sequential``, and where those are in a checkout."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.package = f"recbole.model.{name}_recommender"
        self.folder = self.package.replace(".", "/")
        self.init = f"{self.folder}/__init__.py"  # the file with their imports
        self.api = f"docs/source/recbole/{self.package}.rst"  # the list of their API pages
        self.guide = f"docs/source/user_guide/model/{name}"  # the folder of their pages in the user guide
        self.tests = f"Test{name.title()}Recommender"  # the class of their tests


GENERAL, SEQUENTIAL = Kind("general"), Kind("sequential")


def is_checkout(folder: Path) -> bool:
    """Whether the folder holds RecBole's source code, with or without its tests and documentation."""
    return (folder / GENERAL.init).is_file()


def insert(folder: Path, path: str, text: str, kind: Kind) -> bool:
    """Put ``text`` where it belongs in a file of the checkout; return False where the file is not there."""
    file = folder / path
    if not file.is_file():
        return False
    with file.open(encoding="utf-8") as opened:
        old, ends = opened.read(), opened.newlines
    if _holds(old, text):
        return True
    places: dict[str, Callable[[], str]] = {
        kind.init: lambda: f"{old.rstrip()}\n{text.rstrip()}\n",
        TESTS: lambda: _at_the_end_of_the_class(kind.tests, old, text),
        GUIDE: lambda: _into_the_guide(kind, old, text),
        kind.api: lambda: _after_the_last(rf"^   {re.escape(kind.package)}\.\w+$", kind.api, old, text),
        LIST: lambda: _into_the_list(kind, old, text),
    }
    # the line ends that it has, or each line of the file would be a change
    file.write_text(places[path](), encoding="utf-8", newline=ends if isinstance(ends, str) else None)
    return True


def add(folder: Path, path: str, text: str) -> None:
    """Put ``text`` at the end of a file of lines that stand apart, below those of other models, each once."""
    file = folder / path
    old = file.read_text(encoding="utf-8") if file.is_file() else ""
    if _holds(old, text):
        return
    before = _row_of_before(old, text) if path.endswith(LIST) else None
    new = old + text if before is None else old[: before.start] + text.strip().rstrip(",") + old[before.stop :]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(new, encoding="utf-8")


def _holds(old: str, text: str) -> bool:
    """Whether the lines of ``text`` are among those of ``old``, as whole lines: that of SSF begins that of SSFL."""
    known = re.escape(text.strip(" \n,"))
    return re.search(rf"^ *{known},?$", old, re.MULTILINE) is not None


def _row_of_before(old: str, row: str) -> slice | None:
    """Return where the list has the row of that model from an export before this one, with another author, say."""
    at = old.find(f'"model_link": "{json.loads(row.strip().rstrip(","))["model_link"]}"')
    return None if at < 0 else slice(old.rindex("{", 0, at), old.index("}", at) + 1)


def _at_the_end_of_the_class(name: str, old: str, text: str) -> str:
    found = re.search(rf"^class {name}\b", old, re.MULTILINE)
    if found is None:
        raise UsageError(f"{TESTS} of the checkout has no class {name}.")
    following = re.compile(r"^\S", re.MULTILINE).search(old, found.end())
    end = len(old) if following is None else following.start()
    rest = f"\n\n{old[end:]}" if following else ""
    return f"{old[:end].rstrip()}\n\n{text.rstrip()}\n{rest}"


def _after_the_last(pattern: str, path: str, old: str, text: str) -> str:
    matches = list(re.finditer(pattern, old, re.MULTILINE))
    if not matches:
        raise UsageError(f"{path} of the checkout has no line like '{text.strip()}'.")
    end = matches[-1].end()
    return f"{old[:end]}\n{text.rstrip()}{old[end:]}"


def _into_the_guide(kind: Kind, old: str, text: str) -> str:
    new = _after_the_last(rf"^   model/{kind.name}/\w+$", GUIDE, old, text)
    return re.sub(r"(?<=We implement )\d+", lambda match: str(int(match[0]) + 1), new, count=1)


def _into_the_list(kind: Kind, old: str, text: str) -> str:
    before = _row_of_before(old, text)
    if before is not None:
        new = old[: before.start] + text.strip().rstrip(",") + old[before.stop :]
        json.loads(new)
        return new
    link = old.rfind(f'"model_link": "/docs/user_guide/model/{kind.name}/')
    at = old.rfind('"repository": "RecBole"', 0, old.find("}", link)) if link >= 0 else -1
    if at < 0:
        raise UsageError(f"{LIST} of the checkout has no {kind.name} recommender of RecBole to put the new row after.")
    end, row = old.find("}", at) + 1, text.rstrip().rstrip(",")
    new = f"{old[:end]},\n{row}{old[end:]}"  # which may be the last row
    json.loads(new)
    return new
