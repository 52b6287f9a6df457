"""Text as spreadsheets and people write it: a first line about the separator, and blanks around ids."""

from pathlib import Path

import pandas as pd
import pytest
from converted import Raw

from recbole_signed.api.bulk import read_users

RULE = {"like": "rating >= 4", "dislike": "rating <= 2"}
ROWS = "user;item;rating\nanna;7;4,5\nbert;8;1,0\n"


def pairs_of(folder: Path) -> list[tuple[str, str]]:
    frame = pd.read_csv(folder / f"{folder.name}.inter", sep="\t", dtype=str)
    return list(frame[["user_id:token", "item_id:token"]].itertuples(index=False, name=None))


@pytest.mark.parametrize("note", ["sep=;\n", "\ufeffsep=;\r\n", '"sep=;"\n', "SEP=;\n", "\nsep=;\n"])
def test_a_first_line_that_names_the_separator_is_followed(log: Raw, note: str) -> None:
    log(note + ROWS)
    made = log.made(decimal=",", **RULE)
    assert pairs_of(made) == [("anna", "7"), ("bert", "8")]
    log(note + ROWS.split("\n", 1)[1])
    made = log.made(columns="user,item,rating", decimal=",", **RULE)
    assert pairs_of(made) == [("anna", "7"), ("bert", "8")]


def test_the_separator_of_the_first_line_is_taken_and_its_rows_keep_their_numbers(log: Raw) -> None:
    log("sep=|\nuser|item|rating,of 5\nanna|7,1|5\nbert|8|1\n")
    rule = {"like": "'rating,of 5' >= 4", "dislike": "'rating,of 5' <= 2"}
    assert pairs_of(log.made(**rule)) == [("anna", "7,1"), ("bert", "8")]
    log("sep=;\n" + ROWS + "carl;9\n")
    log.refuses(r"log.csv, line 5: 2 columns where 3 were expected", decimal=",", **RULE)
    log("sep=;\n").refuses("log.csv holds no rows", **RULE)


@pytest.mark.parametrize("header", ["user;item;rating, of 5", 'user;item;"rating, of, 5"', "user;item id;rating of 5"])
def test_the_separator_that_a_header_has_most_often_is_taken(log: Raw, header: str) -> None:
    log(f"{header}\nanna;7;5\nbert;8;1\n")
    rating = header.split(";")[2].strip('"')
    rule = {"like": f"'{rating}' >= 4", "dislike": f"'{rating}' <= 2"}
    assert pairs_of(log.made(item=header.split(";")[1], **rule)) == [("anna", "7"), ("bert", "8")]


def test_blanks_around_ids_and_numbers(log: Raw) -> None:
    log("user, item, rating\nanna , 7, 5\n\u00a0anna,007, 1\n bo b, 8.0, 1\n")
    assert pairs_of(log.made(**RULE)) == [("anna", "7"), ("anna", "007"), ("bo b", "8.0")]
    log("user, item, rating\nanna, 7, 5\nanna, 8.0, 1\n", "whole.csv")
    assert pairs_of(log.made(**RULE)) == [("anna", "7"), ("anna", "8")]
    log("user,item,rating\n  ,7,5\n", "none.csv").refuses(r"none.csv, line 2: no value in column 'user'", **RULE)
    assert read_users(log("user, age\n anna , 3\n", "users.csv").folder / "users.csv") == ["anna"]
    text = "user, item, rating, price, brand\nanna, 7, 5, 2.50, Acme\nbert, 8, 1, 3,  Bell \n"
    log(text)
    header, *rows = (log.made(keep="price,brand", **RULE) / "log.inter").read_text().splitlines()
    assert header.endswith("price:float\tbrand:token")
    assert [row.split("\t")[-2:] for row in rows] == [["2.50", "Acme"], ["3", "Bell"]]


def test_a_word_that_means_no_value_is_no_verdict_unless_it_is_compared_with(log: Raw) -> None:
    text = "user,item,answer\na,x,yes\nb,x,NULL\nc,x, nan \nd,x,no\ne,x,\n"
    log(text)

    def signs(**rule: str) -> list[float]:
        return pd.read_csv(log.made(**rule) / "log.inter", sep="\t")["sign:float"].tolist()

    assert signs(like="answer == yes", dislike="else") == [1, 0, 0, -1, 0]
    assert signs(like="answer == yes", dislike="answer != yes") == [1, 0, 0, -1, 0]
    assert signs(like="answer == yes", dislike="answer == NULL or answer == no") == [1, -1, 0, -1, 0]


@pytest.mark.parametrize("user", ["7.6561198e+16", "7.656119800000001e+16", "7.65612E+16", "1e+05", "7.6561198E16"])
def test_ids_that_lost_digits_are_refused_in_any_notation(log: Raw, user: str) -> None:
    log(f"user,item,rating\na,7,1\n{user},7,5\n")
    log.refuses(r"line 3: '[71].*' in column 'user' is a number that was rounded", **RULE)


@pytest.mark.parametrize("user", ["3e20", "1.5e3", "12e+05", "5E12", "1.25E+02"])
def test_names_that_look_like_numbers_in_short_are_ids(log: Raw, user: str) -> None:
    log(f"user,item,rating\na,7,1\n{user},7,5\n")
    assert pairs_of(log.made(**RULE)) == [("a", "7"), (user, "7")]


def test_large_ids_blank_rows_and_names_with_blanks(log: Raw) -> None:
    log("user,item,rating\n1.0,7,5\n9007199254740992,7,1\n")
    assert pairs_of(log.made(**RULE)) == [("1", "7"), ("9007199254740992", "7")]
    log("user,item,rating\n1.0,7,5\n9007199254740992.0,7,1\n", "other.csv")
    log.refuses(r"line 3: the id '9007199254740992.0' .* make the ids text or integers", **RULE)
    assert log("User ID;Item ID;rating\n1;10;5\n2;20;1\n;;\n ; ;\n").rows(**RULE) == ["1|10|5|1", "2|20|1|-1"]
    log("User ID;Item ID;rating\n;;\n1;;5\n").refuses("line 3: no value in column 'Item ID'", **RULE)
