"""The options that every source has: what becomes of bad rows, and cleaning."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from recbole_signed.convert.options import option, read


@dataclass(frozen=True)
class Common:
    """Given like the options of a source. Cleaning goes in the order in which its options stand here."""

    on_error: Literal["stop", "skip"] = option(
        "stop", "a bad row ends the conversion, or goes to NAME.rejected.tsv and is counted"
    )
    dedup: Literal["none", "last", "first"] = option(
        "none",
        "of the rows of a pair: all, or the last or first like or dislike (of a pair that has neither, the last or "
        "first neutral row)",
    )
    min_likes: int = option(0, "leave out users that like fewer items")
    k_core: int = option(0, "leave out users and items with fewer likes and dislikes together, until all have enough")
    gap_filling: bool = option(
        False, "number users and items again from 0, in the order of their numbers, without gaps"
    )

    @property
    def cleans(self) -> bool:
        """Whether any step of cleaning was asked for."""
        return self.dedup != "none" or bool(self.min_likes or self.k_core or self.gap_filling)


NAMES = tuple(field.name for field in dataclasses.fields(Common))


def split(given: Mapping[str, Any], options_class: type, source: str | None) -> tuple[Common, dict[str, Any]]:
    """Take the common options out of those given; an option that the source has itself stays the source's."""
    own = {field.name for field in dataclasses.fields(options_class)}
    mine = {key: value for key, value in given.items() if key.replace("-", "_") in NAMES and key not in own}
    return read(Common, mine, source), {key: value for key, value in given.items() if key not in mine}
