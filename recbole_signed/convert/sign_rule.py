"""The rule that turns raw signals into a sign: like (+1), dislike (-1) or neutral (0).

A rule is a mapping with a condition for likes and, where there are dislikes, one for them::

    {"like": "rating >= 4", "dislike": "rating <= 2"}
    {"like": "is_click == 1 or long_view == 1", "dislike": "is_hate == 1"}
    {"like": "rating >= 4", "dislike": "else"}
    {"like": "action == like", "dislike": "action == skip"}

A condition is ``COLUMN OP NUMBER`` with one of ``>= <= > < == !=``, or ``COLUMN OP WORD`` with ``==`` or
``!=``; conditions are joined by ``and`` and ``or``, where ``and`` binds tighter and there are no parentheses. A column
or a word with blanks stands in quotes: ``answer == 'not for me'``. ``else`` means: every row that is not a like.

A missing value (NaN, a blank text, and in raw data a word such as NULL that the rule does not name) makes every
comparison false, ``!=`` included, and ``else`` leaves a row alone when a column of the like condition is missing there:
without a signal there is no verdict, so the row is neutral.
"""

from __future__ import annotations

import contextlib
import itertools
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from recbole_signed.errors import UsageError, ending

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
    "!=": operator.ne,
}
_ON_WORDS = ("==", "!=")
_ELSE = "else"
_QUOTED = r"'[^']+'|\"[^\"]+\""
_TOKEN = re.compile(rf"(?P<quoted>{_QUOTED})(?=[\s<>=!]|$)|(?P<op>[<>=!]+)|(?P<word>[^\s<>=!]+)")
_PLAIN = re.compile(r"(?i)(?!(?:and|or)$)[^\s<>=!()]+")
_EXAMPLE = (
    "a condition reads like 'rating >= 4', 'rating >= 4 and is_hate == 0' or 'action == skip or action == dislike', "
    "with quotes around a column or word that has blanks"
)


@dataclass(frozen=True)
class _Comparison:
    """One ``COLUMN OP NUMBER``, or ``COLUMN OP WORD``."""

    column: str
    op: str
    text: str  # of the number or the word, as it was given

    @property
    def value(self) -> int | float | str:
        for kind in (int, float):
            with contextlib.suppress(ValueError):
                return kind(self.text)
        return self.text

    def __str__(self) -> str:
        return f"{_written(self.column)} {self.op} {_written(self.text)}"

    def holds(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        values = columns[self.column]
        return _OPERATORS[self.op](values, self.value) & ~_missing(values)


@dataclass(frozen=True)
class _Condition:
    """A disjunction of conjunctions of comparisons."""

    any_of: tuple[tuple[_Comparison, ...], ...]

    @property
    def comparisons(self) -> tuple[_Comparison, ...]:
        return tuple(itertools.chain.from_iterable(self.any_of))

    def __str__(self) -> str:
        return " or ".join(" and ".join(map(str, all_of)) for all_of in self.any_of)

    def holds(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.logical_or.reduce(
            [np.logical_and.reduce([c.holds(columns) for c in all_of]) for all_of in self.any_of]
        )


@dataclass(frozen=True)
class SignRule:
    """A parsed sign rule, made by :meth:`parse`: hashable, picklable, equal to every other rule that reads the same."""

    like: _Condition
    dislike: _Condition | None
    dislike_is_rest: bool = False

    @classmethod
    def parse(cls, spec: Mapping[str, str]) -> SignRule:
        """Parse ``{"like": CONDITION, "dislike": CONDITION or "else"}``; without ``dislike`` there are none."""
        if not isinstance(spec, Mapping):
            raise UsageError(
                f"A sign rule is a mapping with 'like' and 'dislike', got {spec!r}; write for example "
                "{like: 'rating >= 4', dislike: 'rating <= 2'}."
            )
        for key in spec:
            if key not in ("like", "dislike"):
                raise UsageError(
                    f"A sign rule has the keys 'like' and 'dislike', got {key!r}{ending(key, ('like', 'dislike'))}"
                )
        if spec.get("like") is None:
            raise UsageError("A sign rule needs a condition for likes; write for example like: 'rating >= 4'.")
        like = _parse_condition("like", spec["like"])
        dislike = spec.get("dislike")
        rest = isinstance(dislike, str) and dislike.strip().lower() == _ELSE
        rule = cls(like, None if dislike is None or rest else _parse_condition("dislike", dislike), rest)
        rule._refuse_two_kinds()
        return rule

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns the rule reads, each once, in order of appearance."""
        return tuple(dict.fromkeys(c.column for c in self._comparisons))

    @property
    def text_columns(self) -> frozenset[str]:
        """The columns that are compared with words."""
        return frozenset(c.column for c in self._comparisons if isinstance(c.value, str))

    def words_of(self, column: str) -> frozenset[str]:
        """The words that a column is compared with."""
        return frozenset(c.text for c in self._comparisons if c.column == column and isinstance(c.value, str))

    @property
    def _comparisons(self) -> tuple[_Comparison, ...]:
        return self.like.comparisons + (self.dislike.comparisons if self.dislike else ())

    def _refuse_two_kinds(self) -> None:
        """Refuse a column that is compared with words and with numbers: as text it equals no number."""
        for column in self.columns:
            first = {isinstance(c.value, str): c.text for c in reversed(self._comparisons) if c.column == column}
            if len(first) > 1:
                raise UsageError(
                    f"The sign rule compares column {column!r} with the number {first[False]} and with the word "
                    f"{first[True]!r}; a column holds one of the two, so compare it with one kind."
                )

    @property
    def has_dislikes(self) -> bool:
        """Whether the rule asks for dislikes at all."""
        return self.dislike_is_rest or self.dislike is not None

    def as_dict(self) -> dict[str, str]:
        """Give the spec that :meth:`parse` makes this rule from."""
        spec = {"like": str(self.like)}
        if self.has_dislikes:
            spec["dislike"] = _ELSE if self.dislike_is_rest else str(self.dislike)
        return spec

    def __str__(self) -> str:
        return ", ".join(f"{key}: {text}" for key, text in self.as_dict().items())

    def verdicts(self, columns: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Tell for each row, ``[n]``, whether the like and whether the dislike condition holds."""
        like = self.like.holds(columns)
        if self.dislike_is_rest:
            known = ~np.logical_or.reduce([_missing(columns[c.column]) for c in self.like.comparisons])
            return like, ~like & known
        if self.dislike is None:
            return like, np.zeros_like(like)
        return like, self.dislike.holds(columns)

    def apply(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Compute the sign of each row: int8 ``[n]``, +1 like, -1 dislike, 0 neutral; a row of both is an error."""
        like, dislike = self.verdicts(columns)
        both = np.flatnonzero(like & dislike)
        if both.size:
            raise UsageError(
                f"Row {both[0] + 1} is a like and a dislike at once by the sign rule "
                f"({self}); make its conditions exclude each other."
            )
        return like.astype(np.int8) - dislike.astype(np.int8)


def _missing(values: np.ndarray) -> np.ndarray:
    """Bool ``[n]``: where there is no value."""
    if values.dtype.kind in "OU":
        return values == ""
    return np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), dtype=bool)


def _parse_condition(key: str, text: object) -> _Condition:
    if not isinstance(text, str) or not text.strip():
        raise UsageError(f"The {key} condition of a sign rule is a text, got {text!r}; {_EXAMPLE}.")
    if text.strip().lower() == _ELSE:
        raise UsageError(f"Only dislikes can be 'else'; write the likes out: {_EXAMPLE}.")
    tokens = list(_TOKEN.finditer(text))
    if any(not token["quoted"] and set("()") & set(token[0]) for token in tokens):
        raise UsageError(f"The {key} condition {text!r} has parentheses, which are not supported; {_EXAMPLE}.")
    any_of = [
        tuple(_parse_comparison(key, text, part) for part in _split(alternative, "and"))
        for alternative in _split(tokens, "or")
    ]
    return _Condition(tuple(any_of))


def _split(tokens: list[re.Match[str]], word: str) -> list[list[re.Match[str]]]:
    places = [place for place, token in enumerate(tokens) if (token["word"] or "").lower() == word]
    begins, ends = [0, *(place + 1 for place in places)], [*places, len(tokens)]
    return [tokens[begin:end] for begin, end in zip(begins, ends, strict=True)]


def _written(name: str) -> str:
    """Return a column or a word as a condition has it."""
    if _PLAIN.fullmatch(name) and name == name.strip("'\""):
        return name
    quote = '"' if "'" in name else "'"
    return f"{quote}{name}{quote}"


def _unquoted(token: re.Match[str]) -> str:
    return token[0][1:-1].strip() if token["quoted"] else token[0].strip("'\"")


def _parse_comparison(key: str, whole: str, part: list[re.Match[str]]) -> _Comparison:
    where = f"in the {key} condition {whole!r}"
    if [bool(token["op"]) for token in part] != [False, True, False]:
        got = repr(whole[part[0].start() : part[-1].end()]) if part else "nothing"
        raise UsageError(f"Expected COLUMN OP NUMBER or COLUMN OP WORD {where}, got {got}; {_EXAMPLE}.")
    op, given = part[1][0], part[2][0]
    if op not in _OPERATORS:
        fix = {"=": "; did you mean '=='?", "=>": "; did you mean '>='?", "=<": "; did you mean '<='?"}.get(op, "")
        raise UsageError(f"Unknown operator {op!r} {where}, use one of {' '.join(_OPERATORS)}{fix or '.'}")
    comparison = _Comparison(_unquoted(part[0]), op, _unquoted(part[2]))
    value = comparison.value
    if value != value or (isinstance(value, str) and (op not in _ON_WORDS or not value)):
        raise UsageError(f"Expected a number after {op!r} {where}, got {given!r}; {_EXAMPLE}.")
    return comparison
