"""Messages on wrong names: one sentence with one end, whether a name is near or not."""

import re
from pathlib import Path

import pytest

import recbole_signed
from recbole_signed.cli.app import main
from recbole_signed.errors import argument, ending, nearest, options_named


def test_sentences_end_once_and_questions_last() -> None:
    assert ending("SFF", ["SSF", "SGFCF"]) == nearest("SFF", ["SSF", "SGFCF"]) == "; did you mean 'SSF'?"
    assert (ending("x", ["SSF"]), nearest("x", ["SSF"])) == (".", "")
    # messages ended in "?.", or went on behind the question mark
    call = re.compile(r"\{(?:ending|nearest)\((?:[^(){}]|\([^()]*\))*\)\}(.*)")
    files = Path(recbole_signed.__file__).parent.rglob("*.py")
    found = [(each.name, rest) for each in files for rest in call.findall(each.read_text(encoding="utf-8"))]
    assert len(found) > 30
    assert [each for each in found if not each[1].startswith('"')] == []


def test_a_message_names_an_argument_as_its_reader_writes_it() -> None:
    """In Python a message asked for ``--overwrite`` or ``--input PATH``."""
    asked = [("trials", ""), ("prune_after", "9"), ("overwrite", "True")]
    assert [argument(*each) for each in asked] == ["trials", "prune_after=9", "overwrite=True"]
    with options_named():
        assert [argument(*each) for each in asked] == ["--trials", "--prune-after 9", "--overwrite"]
        assert argument("n_users", option="--users") == "--users"
    assert argument("trials") == "trials"


def test_messages_name_arguments_in_python_and_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(recbole_signed.UsageError, match=re.escape("needs an input; give input=PATH.")):
        recbole_signed.convert("csv", None, tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(["convert", "csv", "--output", str(tmp_path)])
    assert "needs an input; give --input PATH." in capsys.readouterr().err
