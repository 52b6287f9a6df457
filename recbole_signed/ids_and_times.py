"""What an id and a time may be, wherever data comes in: raw files, atomic files, events, and the ids that users give.

* An id is non-empty text of at most ``MAX_ID`` characters in Unicode's normal form C, so that one name typed in two
  ways is one id, and without the mark U+FEFF that a joined file may put before it. A whole number is its decimal text.
  Null characters and lone surrogates are refused.
* A time is a number since 1970. Its size tells its unit: below 1e11 seconds, below 1e14 milliseconds, below 1e17
  microseconds, else nanoseconds (1e11 seconds is the year 5138, 1e11 milliseconds is 1973). A column or a stream has
  one unit; a number that its size gives to another unit is refused. Numbers below 1e8 fit every unit.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import datetime
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt

from recbole_signed.errors import UsageError

MAX_ID = 16_384
PAD = "[PAD]"  # RecBole's name of the id 0
UNITS = ("s", "ms", "us", "ns")
UNIT_NAMES = dict(zip(UNITS, ("seconds", "milliseconds", "microseconds", "nanoseconds"), strict=True))
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
BELOW = {"s": 1e11, "ms": 1e14, "us": 1e17, "ns": 2.0**63}
_ANY_UNIT = 1e8
_FRACTION = re.compile(r"(?<=:\d\d)\.\d+")  # of a second
_SHOWN = 40  # characters of a value that a reason quotes


def normal(text: str) -> str:
    """Return a text in Unicode's normal form C, without byte order marks before it."""
    return text if text.isascii() else unicodedata.normalize("NFC", text).lstrip("\ufeff")


def id_text(value: Any, longest: int = MAX_ID) -> str:
    """Return an id as it is compared everywhere; raise ValueError with the rest of a sentence for what is none."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        try:
            return str(int(value))
        except ValueError:
            raise ValueError(f"is {quoted(value)}") from None
    if not isinstance(value, str):
        got = "is missing" if value is None else f"is {quoted(value)}, which is neither text nor a whole number"
        raise ValueError(got)
    if not value.lstrip("\ufeff"):
        raise ValueError("is empty")
    if "\x00" in value:
        raise ValueError("holds a null character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("holds a lone surrogate, which is not a character") from None
    if len(value) > longest:
        raise ValueError(f"has {len(value)} characters, and {longest} are accepted")
    return normal(value)


def listed(given: Any, what: str) -> list[Any]:
    """Return the ids that are given, a single one among them, in a list; refuse a table or a mapping."""
    if isinstance(given, Mapping) or hasattr(type(given), "columns"):  # iterating gives keys or column names
        raise UsageError(
            f"the ids of {what}s are in a {type(given).__name__}; give a list, array or series of them, such as its "
            f"column: frame['{what}']."
        )
    of_table = ("tolist", "to_list", "to_pylist")  # of NumPy and PyTorch, of polars and pandas, of Arrow
    given = next((getattr(given, name)() for name in of_table if hasattr(given, name)), given)
    single = isinstance(given, (str, bytes, bytearray, Integral)) or not isinstance(given, Iterable)
    return [given] if single else list(given)


def hash_of(tokens: Iterable[str]) -> str:
    """Return the hash of tokens in order; none of them holds a null character."""
    return hashlib.sha256("\0".join(tokens).encode()).hexdigest()


def quoted(value: Any) -> str:
    """Return the beginning of a value, for a message."""
    try:
        shown = repr(value)
    except ValueError:  # an integer of too many digits
        shown = "a number of thousands of digits"
    return shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "..."


def unit_of(size: float) -> str:
    """Return the unit of a time of this size (its absolute value)."""
    return next((unit for unit, limit in BELOW.items() if size < limit), "ns")


def usual_unit(sizes: npt.NDArray[Any]) -> str:
    """Return the unit of most of some times ``[n]``: a single number that is far too large is a bad row."""
    return unit_of(float(np.partition(sizes, len(sizes) // 2)[len(sizes) // 2])) if len(sizes) else "s"


def fits(sizes: Any, unit: str) -> Any:
    """Tell whether times of these sizes can count in a unit; a number, or ``[n]`` of NumPy or polars."""
    below = sizes < BELOW[unit]
    if unit == "s":
        return below
    return below & ((sizes < _ANY_UNIT) | (sizes >= BELOW[UNITS[UNITS.index(unit) - 1]]))


def milliseconds(times: npt.NDArray[Any], where: str) -> npt.NDArray[np.int64]:
    """Return times ``[n]`` of one unit as whole milliseconds, int64 ``[n]``; ``where`` is the column in messages."""
    sizes = np.abs(times)
    unit = usual_unit(sizes)
    wrong = np.flatnonzero(~fits(sizes, unit))
    if len(wrong):
        raise UsageError(
            f"{where} holds {times[wrong[0]]} in row {wrong[0] + 1}, which counts "
            f"{UNIT_NAMES[unit_of(sizes[wrong[0]])]} by its size, and most others {UNIT_NAMES[unit]}; give all times "
            "in one unit."
        )
    if unit in ("s", "ms"):
        return np.rint(times * (1000 // PER_SECOND[unit])).astype(np.int64)
    return np.rint(times / (PER_SECOND[unit] // 1000)).astype(np.int64)


def day(milliseconds: int) -> str:
    """Return the day of a time in milliseconds since 1970, UTC, as ISO 8601 writes it."""
    return str(np.datetime64(milliseconds, "ms").astype("datetime64[D]"))


def iso_time(text: str) -> datetime:
    """Return the time of a text of ISO 8601, cut to microseconds; Python 3.10 knows neither ``Z`` nor all fractions."""
    return datetime.fromisoformat(
        _FRACTION.sub(lambda match: match[0][:7].ljust(7, "0"), text.strip()).replace("Z", "+00:00")
    )


def hashes(ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return a hash of each name or whole number, ``[n]``: the same in each process and for each type of array."""
    from pandas.util import hash_array

    numbers = hash_array(np.asarray(ids)) ^ np.uint64(1 << 63)  # which keeps their order where they have a sign
    return numbers.view(np.int64)


def order_of_hashes(ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return the places of ids in the order of their :func:`hashes`, ``[n]``: one by chance, and the same each time."""
    return np.argsort(hashes(ids), kind="stable")
