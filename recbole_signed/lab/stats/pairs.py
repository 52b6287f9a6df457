"""User-item pairs that occur more than once, within a part and across parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from recbole_signed.arrays import distinct

if TYPE_CHECKING:
    from recbole_signed.atomic.rows import RawRows


def describe_pairs(rows: RawRows) -> dict[str, Any]:
    """Count rows, repetitions and contradictions, in all and in each part.

    ``repeated_rows`` are the rows after the first of their pair, ``repeated_pairs`` the pairs that have such rows,
    ``contradicting_pairs`` those that are liked in one row and disliked in another. For a part, ``pairs_also_in``
    counts its pairs that another, earlier part has too, and ``contradicted_by`` those of them that it likes where
    the other dislikes, or the other way round.
    """
    total = _Part(rows, slice(None))
    result = total.as_dict()
    del total
    described: dict[str, Any] = {}
    earlier: dict[str, _Part] = {}
    for name, where in rows.parts.items():
        part = _Part(rows, where)
        described[name] = part.as_dict() | {
            "pairs_also_in": {other: _common(part.pairs, pairs.pairs) for other, pairs in earlier.items()},
            "contradicted_by": {other: part.contradicted_by(pairs) for other, pairs in earlier.items()},
        }
        earlier[name] = part
    return result | {"density": result["pairs"] / (rows.n_users * rows.n_items), "parts": described}


def totals(signs: np.ndarray) -> dict[str, int]:
    """Numbers of rows by sign."""
    likes, dislikes = int((signs > 0).sum()), int((signs < 0).sum())
    return {"total": len(signs), "like": likes, "dislike": dislikes, "neutral": len(signs) - likes - dislikes}


class _Part:
    """Sorted keys of the distinct pairs of some rows: of all, of likes and of dislikes."""

    def __init__(self, rows: RawRows, where: slice) -> None:
        users, items, signs = rows.users[where], rows.items[where], rows.signs[where]
        keys = users.astype(np.int64) * rows.n_items + items
        self.liked, self.disliked = distinct(keys[signs > 0]), distinct(keys[signs < 0])
        self.pairs, times = np.unique(keys, return_counts=True)
        self._repeated_rows, self._repeated_pairs = len(keys) - len(self.pairs), int((times > 1).sum())
        self._counts: Mapping[str, Any] = {
            "rows": totals(signs),
            "users": len(np.unique(users)) if rows.parts else rows.n_users,
            "items": len(np.unique(items)) if rows.parts else rows.n_items,
        }

    def as_dict(self) -> dict[str, Any]:
        return {
            **self._counts,
            "pairs": len(self.pairs),
            "repeated_rows": self._repeated_rows,
            "repeated_pairs": self._repeated_pairs,
            "contradicting_pairs": _common(self.liked, self.disliked),
        }

    def contradicted_by(self, other: _Part) -> int:
        return len(
            np.union1d(
                np.intersect1d(self.liked, other.disliked, assume_unique=True),
                np.intersect1d(self.disliked, other.liked, assume_unique=True),
            )
        )


def _common(a: np.ndarray, b: np.ndarray) -> int:
    return len(np.intersect1d(a, b, assume_unique=True))
