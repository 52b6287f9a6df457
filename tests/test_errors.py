"""Messages on wrong names: one sentence with one end, whether a name is near or not."""

from __future__ import annotations

import re
from pathlib import Path

import recbole_signed
from recbole_signed.errors import ending, nearest


def test_a_sentence_on_a_wrong_name_ends_once() -> None:
    assert ending("SFF", ["SSF", "SGFCF"]) == nearest("SFF", ["SSF", "SGFCF"]) == "; did you mean 'SSF'?"
    assert (ending("x", ["SSF"]), nearest("x", ["SSF"])) == (".", "")


def test_nothing_follows_the_question_of_a_message() -> None:
    """Messages ended in "?.", or went on behind the question mark."""
    call = re.compile(r"\{(?:ending|nearest)\((?:[^(){}]|\([^()]*\))*\)\}(.*)")
    files = Path(recbole_signed.__file__).parent.rglob("*.py")
    found = [(each.name, rest) for each in files for rest in call.findall(each.read_text(encoding="utf-8"))]
    assert len(found) > 30
    assert [each for each in found if not each[1].startswith('"')] == []
