"""Numbers with decimal commas and dates that are not ISO's: read by their options, and never guessed."""

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from converted import Raw, manifest_of
from hypothesis import given
from hypothesis import strategies as st
from refusals import check_refused

import recbole_signed as rs
from recbole_signed.convert.clock import TimeFormat
from recbole_signed.errors import UsageError

RULE = {"like": "rating >= 3.5", "dislike": "rating <= 2"}


def lines_of(folder: Path) -> list[str]:
    return (folder / f"{folder.name}.inter").read_text(encoding="utf-8").splitlines()


def test_decimal_commas(log: Raw) -> None:
    log(
        "user;item;rating;time;price;year;sizes\n"
        "a;x;3,5;1593878903,5;1,25;1995;1,5 2\nb;x;1;1593878904;2;1996;3\nc;x;+2,5;1593878905;3,0;1997;4\n"
    )
    made = log.made(decimal=",", keep="price:float,year,sizes:float_seq", **RULE)
    assert lines_of(made)[1:] == [
        "a\tx\t3.5\t1\t1593878903.5\t1.25\t1995\t1.5 2",
        "b\tx\t1\t-1\t1593878904\t2\t1996\t3",
        "c\tx\t2.5\t0\t1593878905\t3\t1997\t4",
    ]
    assert manifest_of(made)["fields"]["inter"]["year"] == "float"
    assert manifest_of(made)["options"]["decimal"] == ","


def test_a_sign_with_a_decimal_comma(log: Raw) -> None:
    log("user;item;sign\na;x;1,0\nb;x;-1,0\n")
    assert lines_of(log.made(decimal=","))[1:] == ["a\tx\t1", "b\tx\t-1"]


@pytest.mark.parametrize(
    ("text", "options", "told"),
    [
        ("a;x;3,5\n", {}, r"log.csv, line 2: .*'3,5' \(where a comma stands before the decimals, give decimal=,\); "),
        ("a;x;1.234\n", {"decimal": ","}, r"line 2: .*got '1.234' \(with decimal=, a number has no point\)"),
        ("a;x;1.234,5\n", {"decimal": ","}, r"line 2: .*got '1.234,5' \(with decimal=,"),
        ("a;x;1,234,5\n", {"decimal": ","}, r"line 2: .*got '1,234,5'; "),
        ("a;x;5\n", {"decimal": ";"}, "decimal=';' is neither a point nor a comma"),
    ],
)
def test_what_is_no_number_is_refused_with_the_option(log: Raw, text: str, options: dict[str, Any], told: str) -> None:
    log("user;item;rating\n" + text).refuses(told, **RULE, **options)


def test_a_kept_column_that_may_be_numbers_or_text_needs_its_type(log: Raw) -> None:
    log("user;item;rating;at\na;x;5;3,5\nb;x;1;2\n")
    options = {"decimal": ",", "rating": "rating", **RULE}
    log.refuses(r"line 2: '3,5' in column 'at' is a number or a text; .* keep='at:float' or", keep="at", **options)
    assert lines_of(log.made(keep="at:token", **options))[1] == "a\tx\t5\t1\t3,5"
    log("user;item;rating;at\na;x;5;3.5 1\n")
    told = log.refuses(r"line 2: '3.5 1' in column 'at' has a point", keep="at:float_seq", **options)
    assert told.endswith("on_error=skip.")


def test_dates_by_a_notation_and_bad_ones(log: Raw) -> None:
    log("user,item,sign,date\na,x,1,05/07/2020\nb,x,-1,4/7/2020\n")
    made = log.made(time_format="%d/%m/%Y")
    assert lines_of(made)[1:] == ["b\tx\t-1\t1593820800", "a\tx\t1\t1593907200"]
    made = log.made(time_format="%m/%d/%Y")
    assert lines_of(made)[1:] == ["b\tx\t-1\t1586217600", "a\tx\t1\t1588809600"]
    log("user;item;rating;date\na;x;4,5;05/07/2020\nb;x;4.5;05/07/2020\nc;x;1;2020\n")
    made = log.made(decimal=",", time_format="%d/%m/%Y", on_error="skip", like="rating >= 4")
    assert lines_of(made)[1:] == ["a\tx\t4.5\t1\t1593907200"]
    assert manifest_of(made)["rejected"]["rows"] == 2


@pytest.mark.parametrize(("digits", "notation"), [("20240105", "%Y%m%d"), ("202401051200", "%Y%m%d%H%M")])
def test_digits_of_a_date_that_pass_for_unix_time_are_warned_about(log: Raw, digits: str, notation: str) -> None:
    log(f"user,item,sign,date\na,x,1,{digits}\n")
    assert any("give time_format=" in each for each in manifest_of(log.made())["warnings"])
    made = log.made(time_format=notation)
    assert not any("time_format" in each for each in manifest_of(made)["warnings"])
    assert manifest_of(made)["time"]["first"].startswith("2024-01-05")


@pytest.mark.parametrize(
    ("date", "options", "told"),
    [
        (
            "05/07/2020",
            {},
            r"line 2: time '05/07/2020' .* give time_format=, such as %d/%m/%Y where the day is first, or",
        ),
        (
            "2020-07-05",
            {"time_format": "%d/%m/%Y"},
            r"'2020-07-05' in column 'date' is no date .* time_format=%d/%m/%Y",
        ),
        ("05/07/20", {"time_format": "%d/%m/%Y"}, "line 2: time '05/07/20'"),
        ("31/02/2020", {"time_format": "%d/%m/%Y"}, "line 2: time '31/02/2020'"),
        ("now", {"time_format": "%d/%m/%Y"}, "line 2: time 'now'"),
        ("", {"time_format": "%d/%m/%Y"}, "line 2: no time in column 'date'; a date in the notation %d/%m/%Y was"),
        ("05/07/2020", {"time_format": "%d/%m/%Y", "time_unit": "s"}, "Both time_unit= and time_format= were given"),
        (
            "05/07/2020",
            {"time_format": "%d/%m/%Y", "time": "none"},
            "time_format= was given, but log.csv has no column",
        ),
        ("05/07/2020", {"time_format": "mixed"}, "time_format='mixed' has no year"),
    ],
)
def test_dates_are_not_guessed(log: Raw, date: str, options: dict[str, Any], told: str) -> None:
    log(f"user,item,sign,date\na,x,1,{date}\n").refuses(told, **options)


def seconds(notation: str, *texts: str) -> list[float | None]:
    return TimeFormat(notation).seconds(pl.Series(texts, dtype=pl.String)).to_list()


@given(
    moment=st.datetimes(datetime(1969, 1, 1), datetime(2068, 12, 31)),
    notation=st.sampled_from(
        (
            *("%d/%m/%Y %H:%M:%S", "%Y%m%d%H%M%S", "%d.%m.%y %H:%M", "%m-%d-%y", "%A, %d %B %Y %I:%M:%S %p"),
            *("%a %b %d %H:%M:%S.%f %Y", "%d %b %Y (%H:%M) 100%%", "[%d/%b/%Y:%H:%M:%S]"),
        )
    ),
)
def test_codes_mean_what_they_mean_to_python(moment: datetime, notation: str) -> None:
    text = moment.strftime(notation)
    expected = datetime.strptime(text, notation).replace(tzinfo=timezone.utc).timestamp()
    assert seconds(notation, text) == [pytest.approx(expected, abs=1e-6, rel=0)]


def test_offsets_halves_of_a_day_and_digits_without_a_separator() -> None:
    assert (
        seconds("%d/%m/%Y %H:%M%z", "05/07/2020 10:00+0200", "05/07/2020 08:00Z", "05/07/2020 05:30-02:30")
        == [1593936000] * 3
    )
    assert seconds("%d/%m/%Y %I:%M %p", "5/7/2020 12:00 am", "5/7/2020 12:00 PM", "5/7/2020 13:00 PM") == [
        *(1593907200, 1593950400),
        None,
    ]
    assert seconds("%Y%m%d", "20200705", "2020115") == [1593907200, None]  # 1 November, or 15 January
    assert seconds("%d %B %Y", "5 July 2020", "5 Jux 2020", "5 Julx 2020", "٥ July 2020") == [1593907200, *[None] * 3]
    assert seconds("%d/%m/%Y") == []


@pytest.mark.parametrize(
    ("notation", "told"),
    [
        ("%d/%m/%Q", "has the code %Q; the codes are %Y, "),
        ("%d/%m/%Y %", "has a single % at its end"),
        ("%d/%m", r"has no year \(%Y or %y\)"),
        ("%Y-%d", r"has no month \(%m or %b or %B\)"),
        ("%m/%Y", r"has no day \(%d\)"),
        ("%d/%m/%Y %y", "has %Y or its like twice"),
        ("%d/%m/%Y %I:%M", "has %I, which means nothing without %p"),
        ("%d/%m/%Y %M", "has %M, which means nothing without %H"),
    ],
)
def test_notations_that_are_none(notation: str, told: str) -> None:
    check_refused(told, TimeFormat, notation)


def test_frames_have_both_options() -> None:
    frame = pl.DataFrame({"user": ["a", "b"], "item": [1, 1], "rating": ["4,5", "1"], "date": ["5/7/2020", "6/7/2020"]})
    made = rs.from_frame(frame, **RULE, decimal=",", time_format="%d/%m/%Y")
    assert lines_of(made.folder)[1:] == ["a\t1\t4.5\t1\t1593907200", "b\t1\t1\t-1\t1593993600"]
    compact = frame.with_columns(rating=pl.Series([5, 1]), date=pl.Series([20200705, 20200706]))
    made = rs.from_frame(compact, **RULE, time_format="%Y%m%d")
    assert lines_of(made.folder)[1:] == ["a\t1\t5\t1\t1593907200", "b\t1\t1\t-1\t1593993600"]
    with pytest.raises(UsageError, match=r"'3,5' .where a comma stands before the decimals, give decimal=,"):
        rs.from_frame(frame.with_columns(rating=pl.Series(["3,5", "1"])), **RULE, time="none")
    dated = compact.with_columns(date=pl.Series([datetime(2020, 7, 5), datetime(2020, 7, 6)]))
    with pytest.raises(UsageError, match=r"column 'date' holds Datetime.*, and time_format= is for dates in text"):
        rs.from_frame(dated, **RULE, time_format="%Y%m%d")
