"""The options of a source, and those that every source has: dataclasses declare them, this module reads them."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from recbole_signed.errors import UsageError, ending, nearest
from recbole_signed.files import path_of

_TRUE, _FALSE = ("true", "yes", "1", "on"), ("false", "no", "0", "off")


def option(default: Any, help: str) -> Any:
    """Declare an option of a source in its dataclass, with what ``convert SOURCE --help`` says about it."""
    return dataclasses.field(default=default, metadata={"help": help})


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """For sources without options."""


@dataclasses.dataclass(frozen=True)
class OptionInfo:
    """What the command line needs to know about one option."""

    name: str
    type: str  # `text`, `integer`, `number`, `yes/no`, `file`, `list` (commas between) or choices joined by `|`
    default: Any
    help: str


def describe(options_class: type) -> list[OptionInfo]:
    """List the options that a dataclass of options declares, in its order."""
    hints = get_type_hints(options_class)
    return [
        OptionInfo(field.name, _type_text(hints[field.name]), field.default, field.metadata.get("help", ""))
        for field in dataclasses.fields(options_class)
    ]


def read(options_class: type, given: Mapping[str, Any], source: str | None) -> tuple[Common, Any]:
    """Make the common options and those of a source from values or their text; None and absent mean the default.

    An option that the source has itself is the source's.
    """
    own = [field.name for field in dataclasses.fields(options_class)]
    shared = [key for key in given if (name := key.replace("-", "_")) in COMMON_NAMES and name not in own]
    rest = {key: value for key, value in given.items() if key not in shared}
    return _read(Common, {key: given[key] for key in shared}, source), _read(options_class, rest, source)


def _read(options_class: type, given: Mapping[str, Any], source: str | None) -> Any:
    hints = get_type_hints(options_class)
    owner, of = ("from_frame", "") if source is None else (f"The source '{source}'", f" of the source '{source}'")
    names = [field.name for field in dataclasses.fields(options_class)]
    values: dict[str, Any] = {}
    for name, value in given.items():
        key = name.replace("-", "_")
        if key not in names:
            has = f"it has {', '.join(names)}" if names else "it has none"
            hint = nearest(key, names) or ending(key, COMMON_NAMES)
            raise UsageError(f"{owner} has no option {name!r}; {has}; every source has {', '.join(COMMON_NAMES)}{hint}")
        if value is not None:
            values[key] = _read_value(hints[key], value, f"The option {key}{of}")
    return options_class(**values)


def as_json(options: Any) -> dict[str, Any]:
    """Give options as they are recorded in ``dataset.json``."""
    return {
        key: list(value) if isinstance(value, tuple) else value.name if isinstance(value, Path) else value
        for key, value in dataclasses.asdict(options).items()
    }


def _bare(hint: Any) -> Any:
    """Drop the ``| None`` of a type."""
    if get_origin(hint) in (Union, types.UnionType):
        return next(part for part in get_args(hint) if part is not type(None))
    return hint


def _type_text(hint: Any) -> str:
    hint = _bare(hint)
    if get_origin(hint) is Literal:
        return "|".join(map(str, get_args(hint)))
    if get_origin(hint) is tuple:
        return "list"
    return {str: "text", int: "integer", float: "number", bool: "yes/no", Path: "file"}[hint]


def _read_value(hint: Any, value: Any, what: str) -> Any:
    hint = _bare(hint)
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        if value not in choices:
            raise UsageError(f"{what} is {value!r}; use one of {', '.join(choices)}{ending(str(value), choices)}")
        return value
    if get_origin(hint) is tuple:
        given = value.split(",") if isinstance(value, str) else value
        parts = list(given) if isinstance(given, Iterable) else [given]
        if not all(isinstance(part, str) for part in parts):
            raise UsageError(f"{what} is {value!r}; give names with commas between them, or a list.")
        return tuple(part.strip() for part in parts if part.strip())
    if hint is bool:
        if isinstance(value, bool):
            return value
        if str(value).lower() in _TRUE + _FALSE:
            return str(value).lower() in _TRUE
        raise UsageError(f"{what} is {value!r}; give true or false.")
    if hint is Path:
        return path_of(value, what)
    if hint is str:
        if isinstance(value, str):
            return value
        raise UsageError(f"{what} is {value!r}; give a text.")
    try:
        if isinstance(value, bool) or (hint is int and isinstance(value, float) and value != int(value)):
            raise ValueError
        number = hint(value)
        if not 0 <= number < math.inf:  # of all options: counts, seeds, seconds, shares
            raise ValueError
        return number
    except (TypeError, ValueError, OverflowError):
        kind = "an integer" if hint is int else "a number"
        raise UsageError(f"{what} is {value!r}; give {kind} of 0 or more.") from None


@dataclasses.dataclass(frozen=True)
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


COMMON_NAMES = tuple(field.name for field in dataclasses.fields(Common))
