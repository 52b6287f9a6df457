"""The source ``steam``: Australian users' reviews of games (Pathak et al., SIGIR 2017), recommended or not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from recbole_signed.convert.base import Converter
from recbole_signed.convert.batch import Batch, RawText
from recbole_signed.convert.options import option
from recbole_signed.convert.raw_files import blocks
from recbole_signed.convert.sign_rule import SignRule

_FORMAT = "Posted %B %d, %Y."
_TYPES: dict[str, Any] = {"user_id": (str, int), "item_id": (str, int), "recommend": bool, "posted": str}
_EXPECTED = "reviews have user_id, item_id, recommend (True or False) and posted (text)"
_SCHEMA: dict[str, Any] = {
    "user_id": pl.String,
    "item_id": pl.String,
    "recommend": pl.Boolean,
    "posted": pl.String,
    "problem": pl.String,
}
_SURROGATE = re.compile("[\ud800-\udfff]")
_NO_YEAR = r"^Posted \w+ \d{1,2}\.$"


@dataclass(frozen=True)
class Options:
    """What becomes of the reviews whose date has no year ("Posted July 10."), a sixth of all."""

    undated: Literal["drop", "keep"] = option(
        "drop", "reviews without a year are left out; or all reviews are kept, and none has a time"
    )


class Steam(Converter):
    """Reads ``australian_user_reviews.json``: a Python dict a line, not JSON; ``recommend`` is the sign."""

    name = data_name = "steam"
    summary = "Steam's australian_user_reviews.json, folder or file, also compressed: recommended or not"
    licence = "not stated by its authors (Pathak, Gupta and McAuley, SIGIR 2017); holds real account names"
    options_class = Options
    files, what = ("australian_user_reviews.json",), "reviews of Steam"

    @property
    def rule(self) -> SignRule:
        """Recommended or not."""
        return SignRule.parse({"like": "recommend == 1", "dislike": "recommend == 0"})

    def batches(self) -> Iterator[Batch]:
        """Give the reviews."""
        dated = self.options.undated == "drop"
        time = ["timestamp"] if dated else []
        sign = pl.col("recommend").cast(pl.Int8) * 2 - 1
        for batch in _reviews(self.file):
            yield (_dated(batch) if dated else batch).select("user_id", "item_id", sign.alias("sign"), *time)


def _dated(batch: Batch) -> Batch:
    """Add ``timestamp`` to the reviews whose date has a year, and leave the others out."""
    batch = batch.keep(~batch.frame["posted"].str.contains(_NO_YEAR))
    seconds = batch.frame["posted"].str.to_date(_FORMAT, strict=False).cast(pl.Int64) * 86400
    return batch.with_columns(seconds.cast(pl.Float64).alias("timestamp")).require(
        seconds.is_not_null(), "posted {value!r}, a date like 'Posted November 5, 2011.' was expected", "posted"
    )


def _reviews(path: Path) -> Iterator[Batch]:
    """Yield user, item, recommendation and date of every review, which are Python literals."""
    for block, first_line in blocks(path):
        rows: list[tuple[Any, ...]] = []
        lines: list[int] = []
        # lines end in \n alone: splitlines would also cut at separators inside a review's text
        for line, text in enumerate(block.decode().split("\n"), first_line):
            if text.strip():
                reviews = _of_user(text)
                rows.extend(reviews)
                lines.extend([line] * len(reviews))
        frame = pl.DataFrame(rows, schema=_SCHEMA, orient="row")
        problem = frame["problem"]
        batch = Batch(frame, path.name, np.array(lines, dtype=np.int64), "line", RawText(block, first_line))
        yield batch.require(problem.is_null(), lambda i, problem=problem: problem[i])  # type: ignore[misc]


def _of_user(text: str) -> list[tuple[Any, ...]]:
    """Rows of ``_SCHEMA`` of one line: of all its reviews, or one that says what is wrong."""
    try:
        user = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return [_bad("not a Python dict; lines are {'user_id': ..., 'reviews': [...]}")]
    if not isinstance(user, dict) or not isinstance(user.get("reviews"), list):
        return [_bad("a dict with 'user_id' and a list of 'reviews' was expected")]
    rows: list[tuple[Any, ...]] = []
    for review in user["reviews"]:
        record = {**review, "user_id": user.get("user_id")} if isinstance(review, dict) else {}
        wrong = next((key for key, type_ in _TYPES.items() if not _fits(record.get(key), type_)), None)
        if wrong is None:
            user_id, item_id, recommend, posted = (record[key] for key in _TYPES)
            rows.append((str(user_id), str(item_id), recommend, posted.strip(), None))
        else:
            got = repr(record.get(wrong)) if record else repr(review)
            rows.append(_bad(f"{wrong!r} of a review is {got}; {_EXPECTED}"))
    return rows


def _fits(value: Any, type_: Any) -> bool:
    """Whether a value is of a type, and no text that UTF-8 can't hold: an escape may spell half of a UTF-16 pair."""
    return isinstance(value, type_) and _SURROGATE.search(str(value)) is None


def _bad(problem: str) -> tuple[Any, ...]:
    return None, None, None, None, problem
