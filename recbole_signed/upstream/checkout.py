"""Puts lines into files of a RecBole checkout, each once."""

from __future__ import annotations

import json
import re
from pathlib import Path

from recbole_signed.errors import UsageError

INIT = "recbole/model/general_recommender/__init__.py"
TESTS = "tests/model/test_model_auto.py"
GUIDE = "docs/source/user_guide/model_intro.rst"
API = "docs/source/recbole/recbole.model.general_recommender.rst"
LIST = "asset/model_list.json"


def is_checkout(folder: Path) -> bool:
    """Whether the folder holds RecBole's source code, with or without its tests and documentation."""
    return (folder / INIT).is_file()


def insert(folder: Path, path: str, text: str) -> bool:
    """Put ``text`` where it belongs in a file of the checkout; return False where the file is not there.

    Raises:
        UsageError: the file does not look as RecBole's does.
    """
    file = folder / path
    if not file.is_file():
        return False
    old = file.read_text(encoding="utf-8")
    if text.strip(" \n,") in old:
        return True
    file.write_text(_PLACES[path](old, text), encoding="utf-8")
    return True


def _at_the_end(old: str, text: str) -> str:
    return f"{old.rstrip()}\n{text.rstrip()}\n"


def _before_the_second_class(old: str, text: str) -> str:
    classes = [match.start() for match in re.finditer(r"^class ", old, re.MULTILINE)]
    if len(classes) < 2 or "TestGeneralRecommender" not in old[classes[0] : classes[1]]:
        raise UsageError(f"{TESTS} of the checkout does not begin with the class TestGeneralRecommender.")
    return f"{old[: classes[1]].rstrip()}\n\n{text.rstrip()}\n\n\n{old[classes[1] :]}"


def _after_the_last(pattern: str, path: str, old: str, text: str) -> str:
    matches = list(re.finditer(pattern, old, re.MULTILINE))
    if not matches:
        raise UsageError(f"{path} of the checkout has no line like '{text.strip()}'.")
    end = matches[-1].end()
    return f"{old[:end]}\n{text.rstrip()}{old[end:]}"


def _into_the_guide(old: str, text: str) -> str:
    new = _after_the_last(r"^   model/general/\w+$", GUIDE, old, text)
    return re.sub(r"(?<=We implement )\d+", lambda match: str(int(match[0]) + 1), new, count=1)


def _into_the_list(old: str, text: str) -> str:
    link = old.rfind('"model_link": "/docs/user_guide/model/general/')
    at = old.rfind('"repository": "RecBole"', 0, old.find("}", link)) if link >= 0 else -1
    end = old.find("},", at) + 2
    if at < 0 or end < 2:
        raise UsageError(f"{LIST} of the checkout has no general recommender of RecBole to put the new row after.")
    new = f"{old[:end]}\n{text.rstrip()}{old[end:]}"
    json.loads(new)
    return new


_PLACES = {
    INIT: _at_the_end,
    TESTS: _before_the_second_class,
    GUIDE: _into_the_guide,
    API: lambda old, text: _after_the_last(r"^   recbole\.model\.general_recommender\.\w+$", API, old, text),
    LIST: _into_the_list,
}
