"""The features of announced items and users: a JSON object a line, with its checksum; the last one of an id counts.

A line is on the disk before the event that brings it is in the log, so no event that was acknowledged lacks it. Where
the log refuses the event, the line is taken back; a crash may leave it, or half a line, which reading leaves out. The
lines of a user go before its forgetting is in the log, and come back where the log refuses that.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recbole_signed.files import DamagedError, at, refusing, replace_file
from recbole_signed.live.events import ANNOUNCED
from recbole_signed.live.store.line_files import append_lines, cut, is_torn, read_lines, summed_line
from recbole_signed.live.store.vocabulary import Vocabulary

ANNOUNCEMENTS = "features.jsonl"
"""Name of the file in a state directory."""
_logger = logging.getLogger(__name__)
_SIDES = tuple(ANNOUNCED.values())
_SLACK = 1000
"""Lines that were replaced by later ones, beyond as many as there are items and users, after which the file is written
again."""


class Announcements:
    """The file of one state, and what it holds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._n_lines, self._read = 0, (0, b"")
        self._last: tuple[int, dict[str, dict[str, str | None]]] | None = None  # see `take_back`
        self._known: dict[str, dict[str, str]] = {side: {} for side in _SIDES}
        self.follow()

    def follow(self) -> None:
        """Read what another process has added to the file since; all of it where it was written again."""
        rows, self._read, whole = read_lines(self.path, self._read)
        if whole:
            self._n_lines, self._known = 0, {side: {} for side in _SIDES}
        for row in rows:
            found = [(side, row[side]) for side in _SIDES if side in row] if isinstance(row, dict) else []
            features = row.get("features") if found else None
            if len(found) != 1 or not isinstance(found[0][1], str) or not isinstance(features, dict):
                raise DamagedError(
                    f"{self.path} is damaged: a line is not of an item or a user; put a copy of it in its place."
                )
            ((side, token),) = found
            self._known[side][token] = json.dumps(features, sort_keys=True)
        self._n_lines += len(rows)

    def __len__(self) -> int:
        return sum(map(len, self._known.values()))

    def add(self, announced: Mapping[str, Mapping[str, str]]) -> None:
        """Take features, as JSON by side and token; they are on the disk when this returns."""
        self._last = None
        if not any(announced.values()):
            return
        with refusing("Writing the features of items and users"):
            if self._n_lines > 2 * len(self) + _SLACK:
                self._write_again(self._known)
            size = append_lines(self.path, _rows(announced))
            self._last = (
                size,
                {side: {token: self._known[side].get(token) for token in announced[side]} for side in announced},
            )
            for side, features in announced.items():
                self._known[side].update(features)
                self._n_lines += len(features)
            at("announcements:written")

    def take_back(self, erased: Mapping[str, str]) -> None:
        """Undo the last `add`, and what `erase` took just before it: their events did not come into the log."""
        self._undo_add()
        if erased:
            self._known = {**self._known, "user": {**erased, **self._known["user"]}}
            try:
                self._write_again(self._known)
            except OSError as error:  # they count until this process ends
                _logger.warning(
                    "Features of users who were not forgotten are not in %s any more: %s.", self.path, error
                )

    def _undo_add(self) -> None:
        if self._last is None:
            return
        (size, before), self._last = self._last, None
        for side, features in before.items():
            for token, told in features.items():
                if told is None:
                    del self._known[side][token]
                else:
                    self._known[side][token] = told
            self._n_lines -= len(features)
        try:
            cut(self.path, size)
        except OSError as error:  # the next start would take what was refused
            _logger.warning("What was announced and refused could not be taken from %s: %s.", self.path, error)

    def erase(self, users: Iterable[str]) -> dict[str, str]:
        """Write the file again without the lines of some users, where it may have any; return their features."""
        known = self._known["user"]
        erased = {token: known[token] for token in users if token in known}
        if erased or self._is_torn():
            left = {token: each for token, each in known.items() if token not in erased}
            with refusing("Erasing the features of users"):
                self._write_again({**self._known, "user": left})
        return erased

    def keep(self, users: Vocabulary) -> None:
        """Erase the users that are not in a vocabulary; raises as :meth:`erase`."""
        self.erase([token for token in self._known["user"] if token not in users])

    def _is_torn(self) -> bool:
        """Return whether a crash has left half a line, which may be of anybody."""
        if not self.path.exists():
            return False
        with self.path.open("rb") as file:
            return is_torn(file)

    def _write_again(self, known: dict[str, dict[str, str]]) -> None:
        replace_file(self.path, b"".join(map(summed_line, _rows(known))))
        self._known, self._n_lines, self._last = known, sum(map(len, known.values())), None

    def numbers_of_items(self, items: Vocabulary) -> np.ndarray:
        """Return the numbers of announced items that have one, int64."""
        numbers = items.ids(list(self._known["item"]))
        return numbers[numbers > 0]

    def by_id(
        self,
        users: Vocabulary,
        items: Vocabulary,
        wanted: Mapping[str, Iterable[str]] | None = None,
        sides: Collection[str] = _SIDES,
    ) -> dict[str, dict[int, dict[str, Any]]]:
        """Return the features of announced items and users that have a number, by side and number.

        Args:
            users: their vocabulary.
            items: the same of items.
            wanted: tokens by side; None for all.
            sides: that are asked for.
        """
        found: dict[str, dict[int, dict[str, Any]]] = {}
        for side in sides:
            known, vocabulary = self._known[side], items if side == "item" else users
            tokens = list(known) if wanted is None else [each for each in wanted.get(side, ()) if each in known]
            numbers = vocabulary.ids(tokens).tolist()
            found[side] = {n: json.loads(known[token]) for n, token in zip(numbers, tokens, strict=True) if n}
        return found


def _rows(announced: Mapping[str, Mapping[str, str]]) -> Iterator[dict[str, Any]]:
    for side, features in announced.items():
        for token, each in features.items():
            yield {side: token, "features": json.loads(each)}
