"""Times against Python's own datetime."""

from datetime import date, datetime, timedelta, timezone

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import check_refused

from recbole_signed.convert import Batch
from recbole_signed.convert.clock import Clock
from recbole_signed.errors import UsageError

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def seconds(values: pl.Series | list, unit: str = "auto") -> list[float]:
    series = pl.Series("t", values)
    batch = Batch(pl.DataFrame({"t": series}), "raw", range(1, series.len() + 1))
    return Clock(unit).seconds(batch, "t").frame["t"].to_list()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "unit", "expected"),
    [
        ([874724710, 893286638], "auto", [874724710, 893286638]),
        ([1650812741436, 1650812742000], "auto", [1650812741.436, 1650812742]),
        ([1650812741436123], "auto", [1650812741.436123]),
        ([1650812741436123000], "auto", [1650812741.436123]),
        ([1593878903.438], "auto", [1593878903.438]),
        (["1593878903.438", "1593878904"], "auto", [1593878903.438, 1593878904]),
        (["1650812741436"], "auto", [1650812741.436]),
        ([0, 5, 26_000_000], "auto", [0, 5, 26_000_000]),
        ([1650812741436], "us", [1650812.741436]),
        ([-1500, 500], "ms", [-1.5, 0.5]),
        (["1.65e9"], "s", [1.65e9]),
    ],
)
def test_numbers(values: list, unit: str, expected: list[float]) -> None:
    assert seconds(values, unit) == expected


@pytest.mark.parametrize("dtype", [pl.Int32, pl.UInt32, pl.Int64, pl.UInt64, pl.Float64, pl.String])
def test_types_of_numbers(dtype: pl.DataType) -> None:
    assert seconds(pl.Series([874724710, 893286638]).cast(dtype)) == [874724710, 893286638]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01", 0),
        ("2020-07-05 00:08:23.438", 1593907703.438),
        ("2020-07-05T00:08:23.438Z", 1593907703.438),
        ("2020-07-05T00:08:23,438+08:00", 1593878903.438),
        ("2020-07-05 00:08", 1593907680),
        ("2020/7/5", 1593907200),
        ("2020-07-05T00:00:00-0230", 1593907200 + 9000),
        ("2020-07-05 00:08:23.438+00", 1593907703.438),  # as PostgreSQL writes it
        ("2020-07-05 00:08-03", 1593907680 + 10800),
        ("  2020-07-05 00:00:00 UTC ", 1593907200),
        ("1969-12-31 23:59:59.5", -0.5),
    ],
)
def test_dates(text: str, expected: float) -> None:
    assert seconds([text]) == [expected]


moment = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1))


@given(
    moments=st.lists(moment, min_size=1, max_size=5),
    offset=st.integers(-14 * 60, 14 * 60),
    separator=st.sampled_from(["T", " "]),
)
def test_iso_text_and_typed_columns_agree_with_datetime(moments: list[datetime], offset: int, separator: str) -> None:
    zone = timezone(timedelta(minutes=offset))
    stamped = [moment.replace(tzinfo=zone) for moment in moments]
    expected = [(moment - EPOCH) / timedelta(seconds=1) for moment in stamped]
    assert seconds([moment.isoformat(separator) for moment in stamped]) == pytest.approx(expected, abs=1e-6, rel=0)
    typed = pl.Series([moment.astimezone(timezone.utc) for moment in stamped])
    assert seconds(typed) == pytest.approx(expected, abs=1e-6, rel=0)
    whole = [moment.replace(microsecond=0) for moment in moments]
    naive = [(moment.replace(tzinfo=timezone.utc) - EPOCH).total_seconds() for moment in whole]
    for unit in ("ms", "us", "ns"):
        assert seconds(pl.Series(whole).cast(pl.Datetime(unit))) == naive  # exact
    assert seconds([date(1970, 1, 2)]) == [86400]


@pytest.mark.parametrize(
    "bad",
    ["2020-02-30", "2020-13-01", "2020-01-01 25:00", "05.07.2020", "now", "2020", "2020-07-05-12", "2020-07-05 12"],
)
def test_no_dates(bad: str) -> None:
    check_refused(f"^raw, row 2: time '{bad}' in column 't'; unix time or a date", seconds, ["2020-07-05", bad])


def test_of_as_many_numbers_as_dates_the_first_says_what_the_column_holds() -> None:
    check_refused(r"^raw, row 2: time '2020-07-05' in column 't'", seconds, ["1593878903", "2020-07-05"])
    check_refused(r"^raw, row 2: time '1593878903' in column 't'", seconds, ["2020-07-05", "1593878903"])


def test_one_unit_for_all_batches_of_a_source() -> None:
    clock = Clock()

    def run(values: list[int]) -> list[float]:
        frame = pl.DataFrame({"t": values}, schema={"t": pl.Int64})
        return clock.seconds(Batch(frame, "raw", range(11, 11 + len(values))), "t").frame["t"].to_list()

    assert run([]) == []
    assert run([1_650_812_741_000]) == [1_650_812_741]
    assert run([2000]) == [2]
    with pytest.raises(UsageError, match=r"raw, row 12: time 1650812741000000 .* too large for unix time in ms"):
        run([5, 1_650_812_741_000_000])


@pytest.mark.parametrize("values", [[1.0, float("nan")], [1, None], ["5", ""], [date(2020, 1, 1), None]])
def test_missing_times(values: list) -> None:
    check_refused("raw, row 2: no time in column 't'", seconds, pl.Series(values))


def test_fractions_keep_microseconds_over_a_century() -> None:
    micros = np.arange(0, 4_000_000_000_000_000, 98_765_432_101_237, dtype=np.int64)
    assert [round(value * 1e6) for value in seconds(pl.Series(micros), "us")] == micros.tolist()
