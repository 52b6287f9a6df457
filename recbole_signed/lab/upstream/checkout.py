"""Puts lines into files of a RecBole checkout, each once."""

from __future__ import annotations

import json
import re
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


def put(folder: Path, path: str, text: str, kind: Kind) -> str:
    """Put lines, each once, where they belong in a file of a checkout, else below ``insert/``; return the place."""
    inside = is_checkout(folder) and (folder / path).is_file()
    place = path if inside else f"insert/{path}"
    file, old, ends = folder / place, "", None
    if file.is_file():
        with file.open(encoding="utf-8") as opened:
            old, ends = opened.read(), opened.newlines
    if _holds(old, text):
        return place
    before = _row_of_before(old, text) if path == LIST else None
    if before is not None:
        new = old[: before.start] + text.strip().rstrip(",") + old[before.stop :]
    else:
        new = _with(kind, path, old, text) if inside else old + text
    file.parent.mkdir(parents=True, exist_ok=True)
    # the line ends that it has, or each line of the file would be a change
    file.write_text(new, encoding="utf-8", newline=ends if isinstance(ends, str) else None)
    return place


def _with(kind: Kind, path: str, old: str, text: str) -> str:
    """Return a file of a checkout with lines in their place."""
    if path == TESTS:
        return _at_the_end_of_the_class(kind.tests, old, text)
    if path == LIST:
        return _into_the_list(kind, old, text)
    if path == kind.api:
        return _after_the_last(rf"^   {re.escape(kind.package)}\.\w+$", path, old, text)
    if path == GUIDE:
        new = _after_the_last(rf"^   model/{kind.name}/\w+$", path, old, text)
        return re.sub(r"(?<=We implement )\d+", lambda match: str(int(match[0]) + 1), new, count=1)
    return f"{old.rstrip()}\n{text.rstrip()}\n"


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


def _into_the_list(kind: Kind, old: str, text: str) -> str:
    link = old.rfind(f'"model_link": "/docs/user_guide/model/{kind.name}/')
    at = old.rfind('"repository": "RecBole"', 0, old.find("}", link)) if link >= 0 else -1
    if at < 0:
        raise UsageError(f"{LIST} of the checkout has no {kind.name} recommender of RecBole to put the new row after.")
    end, row = old.find("}", at) + 1, text.rstrip().rstrip(",")
    return f"{old[:end]},\n{row}{old[end:]}"  # which may be the last row
