"""Text as spreadsheets and people write it: a first line about the separator, and blanks around ids."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from recbole_signed.api.bulk import read_users
from recbole_signed.convert import convert
from recbole_signed.errors import UsageError

RULE = {"like": "rating >= 4", "dislike": "rating <= 2"}
ROWS = "user;item;rating\nanna;7;4,5\nbert;8;1,0\n"


def pairs_of(folder: Path) -> list[tuple[str, str]]:
    frame = pd.read_csv(folder / f"{folder.name}.inter", sep="\t", dtype=str)
    return list(frame[["user_id:token", "item_id:token"]].itertuples(index=False, name=None))


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("note", ["sep=;\n", "\ufeffsep=;\r\n", '"sep=;"\n', "SEP=;\n", "\nsep=;\n"])
def test_a_first_line_that_names_the_separator_is_followed(tmp_path: Path, note: str) -> None:
    raw = write(tmp_path / "log.csv", note + ROWS)
    made = convert("csv", raw, tmp_path, decimal=",", **RULE)
    assert pairs_of(made) == [("anna", "7"), ("bert", "8")]
    raw = write(tmp_path / "log.csv", note + ROWS.split("\n", 1)[1])
    made = convert("csv", raw, tmp_path, name="bare", columns="user,item,rating", decimal=",", **RULE)
    assert pairs_of(made) == [("anna", "7"), ("bert", "8")]


def test_the_separator_of_the_first_line_is_taken_where_a_guess_would_be_wrong(tmp_path: Path) -> None:
    raw = write(tmp_path / "log.csv", "sep=|\nuser|item|rating,of 5\nanna|7,1|5\nbert|8|1\n")
    rule = {"like": "'rating,of 5' >= 4", "dislike": "'rating,of 5' <= 2"}
    assert pairs_of(convert("csv", raw, tmp_path, **rule)) == [("anna", "7,1"), ("bert", "8")]


def test_lines_after_it_keep_their_numbers_and_are_needed(tmp_path: Path) -> None:
    raw = write(tmp_path / "log.csv", "sep=;\n" + ROWS + "carl;9\n")
    with pytest.raises(UsageError, match=r"log.csv, line 5: 2 columns where 3 were expected"):
        convert("csv", raw, tmp_path, decimal=",", **RULE)
    with pytest.raises(UsageError, match=r"log.csv holds no rows"):
        convert("csv", write(tmp_path / "log.csv", "sep=;\n"), tmp_path, **RULE)


def test_blanks_around_ids_of_text_make_no_other_ids(tmp_path: Path) -> None:
    raw = write(tmp_path / "log.csv", "user, item, rating\nanna , 7, 5\n\u00a0anna,007, 1\n bo b, 8.0, 1\n")
    assert pairs_of(convert("csv", raw, tmp_path, **RULE)) == [("anna", "7"), ("anna", "007"), ("bo b", "8.0")]
    raw = write(tmp_path / "whole.csv", "user, item, rating\nanna, 7, 5\nanna, 8.0, 1\n")
    assert pairs_of(convert("csv", raw, tmp_path, **RULE)) == [("anna", "7"), ("anna", "8")]
    raw = write(tmp_path / "none.csv", "user,item,rating\n  ,7,5\n")
    with pytest.raises(UsageError, match=r"none.csv, line 2: no value in column 'user'"):
        convert("csv", raw, tmp_path, **RULE)
    assert read_users(write(tmp_path / "users.csv", "user, age\n anna , 3\n")) == ["anna"]


def test_blanks_around_numbers_make_no_text_of_a_column_to_keep(tmp_path: Path) -> None:
    text = "user, item, rating, price, brand\nanna, 7, 5, 2.50, Acme\nbert, 8, 1, 3,  Bell \n"
    raw = write(tmp_path / "log.csv", text)
    made = convert("csv", raw, tmp_path, keep="price,brand", **RULE)
    header, *rows = (made / "log.inter").read_text().splitlines()
    assert header.endswith("price:float\tbrand:token")
    assert [row.split("\t")[-2:] for row in rows] == [["2.50", "Acme"], ["3", "Bell"]]


def test_a_word_that_means_no_value_is_no_verdict_unless_it_is_compared_with(tmp_path: Path) -> None:
    text = "user,item,answer\na,x,yes\nb,x,NULL\nc,x, nan \nd,x,no\ne,x,\n"
    raw = write(tmp_path / "log.csv", text)

    def signs(**rule: str) -> list[float]:
        made = convert("csv", raw, tmp_path, overwrite=True, **rule)
        return pd.read_csv(made / "log.inter", sep="\t")["sign:float"].tolist()

    assert signs(like="answer == yes", dislike="else") == [1, 0, 0, -1, 0]
    assert signs(like="answer == yes", dislike="answer != yes") == [1, 0, 0, -1, 0]
    assert signs(like="answer == yes", dislike="answer == NULL or answer == no") == [1, -1, 0, -1, 0]


@pytest.mark.parametrize("user", ["7.6561198e+16", "7.656119800000001e+16", "7.65612E+16", "1e+05", "7.6561198E16"])
def test_ids_that_lost_digits_are_refused_in_any_notation(tmp_path: Path, user: str) -> None:
    raw = write(tmp_path / "log.csv", f"user,item,rating\na,7,1\n{user},7,5\n")
    with pytest.raises(UsageError, match=r"line 3: '[71].*' in column 'user' is a number that was rounded"):
        convert("csv", raw, tmp_path, **RULE)


@pytest.mark.parametrize("user", ["3e20", "1.5e3", "12e+05", "5E12", "1.25E+02"])
def test_names_that_look_like_numbers_in_short_are_ids(tmp_path: Path, user: str) -> None:
    raw = write(tmp_path / "log.csv", f"user,item,rating\na,7,1\n{user},7,5\n")
    assert pairs_of(convert("csv", raw, tmp_path, **RULE)) == [("a", "7"), (user, "7")]


def test_large_ids_that_were_floats_are_refused_in_text_as_in_tables(tmp_path: Path) -> None:
    raw = write(tmp_path / "log.csv", "user,item,rating\n1.0,7,5\n9007199254740992,7,1\n")
    assert pairs_of(convert("csv", raw, tmp_path, **RULE)) == [("1", "7"), ("9007199254740992", "7")]
    raw = write(tmp_path / "other.csv", "user,item,rating\n1.0,7,5\n9007199254740992.0,7,1\n")
    with pytest.raises(UsageError, match=r"line 3: the id '9007199254740992.0' .* make the ids text or integers"):
        convert("csv", raw, tmp_path, **RULE)


def test_blank_rows_below_the_others_and_names_with_blanks(tmp_path: Path) -> None:
    rows = "User ID;Item ID;rating\n1;10;5\n2;20;1\n;;\n ; ;\n"
    (tmp_path / "export.csv").write_text(rows)
    folder = convert("csv", tmp_path / "export.csv", tmp_path / "out", like="rating >= 4", dislike="rating <= 2")
    assert (folder / "export.inter").read_text().splitlines()[1:] == ["1\t10\t5\t1", "2\t20\t1\t-1"]
    (tmp_path / "export.csv").write_text("User ID;Item ID;rating\n;;\n1;;5\n")
    with pytest.raises(UsageError, match="line 3: no value in column 'Item ID'"):
        convert("csv", tmp_path / "export.csv", tmp_path / "out", overwrite=True, like="rating >= 4")
