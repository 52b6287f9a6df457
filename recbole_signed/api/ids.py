"""Raw ids as users give them, compared as text with those of a fitted model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from recbole_signed.errors import UsageError, counted, nearest
from recbole_signed.ids_and_times import id_text, listed

IntArray = npt.NDArray[np.int64]
_ENOUGH = 200_000  # ids among which the nearest one is looked for


class Ids:
    """The raw ids of users or of items, and RecBole's numbers for them; number 0 is padding and no id.

    They can be iterated, counted by ``len`` and looked up by ``in``: ``model.recommend(model.users)`` is for all
    users.
    """

    def __init__(self, what: str, tokens: Iterable[Any], numbers: dict[Any, int]) -> None:
        self.what = what
        self.tokens = pl.Series(what, [str(token) for token in tokens], dtype=pl.String)
        self._numbers = numbers
        usual = self.tokens.str.normalize("NFC")  # as ids are compared; a data set that RecBole read may have others
        if not usual.equals(self.tokens):
            self._numbers = {token: number for number, token in enumerate(usual)}

    def __repr__(self) -> str:
        return f"<{counted(len(self), f'{self.what} id')}>"

    def __len__(self) -> int:
        return len(self.tokens) - 1

    def __iter__(self) -> Iterator[str]:
        return iter(self.tokens[1:])

    def __contains__(self, given: object) -> bool:
        try:
            text = id_text(given)
        except ValueError:
            return False
        return self._numbers.get(text, 0) > 0

    def texts(self, given: Any) -> list[str]:
        """Return one id or several as texts."""
        return [self._text(value) for value in listed(given, self.what)]

    def _text(self, value: Any) -> str:
        try:
            return id_text(value)
        except ValueError as error:
            raise UsageError(f"the {self.what} id {error}.") from None

    def numbers(self, texts: Iterable[str]) -> IntArray:
        """Return the number of each id, 0 where there is none, int64 ``[n]``."""
        return np.fromiter((self._numbers.get(text, 0) for text in texts), dtype=np.int64)

    def known(self, given: Any) -> IntArray:
        """Return the numbers of ids that must exist, int64 ``[n]``."""
        texts = self.texts(given)
        numbers = self.numbers(texts)
        if len(numbers) and not numbers.all():
            missing = texts[int(np.flatnonzero(numbers == 0)[0])]
            names = not missing.isdigit() and len(self) <= _ENOUGH  # the number next to one is not likelier than others
            near = nearest(missing, self.tokens[1:].to_list()) if names else ""
            raise UsageError(f"the model knows no {self.what} '{missing}'{near or '; ids are compared as text.'}")
        return numbers

    def one(self, given: Any) -> int:
        """Return the number of one id that must exist."""
        return int(self.known([given])[0])
