"""Some validation users at a time, and what several candidates for their scores share."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import torch


class Rooms:
    """Memory that is used again, as the kernel's is slow to get."""

    def __init__(self) -> None:
        self._held: dict[str, torch.Tensor] = {}

    def take(self, name: str, shape: tuple[int, int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Return uninitialised memory of a shape, the same for a name as before.

        Args:
            name: what it is for.
            shape: of the tensor.
            dtype: of the tensor.
        """
        held, size = self._held.get(name), shape[0] * shape[1]
        if held is None or len(held) < size or held.dtype != dtype:
            held = self._held[name] = torch.empty(size, dtype=dtype)
        return held[:size].view(shape)


@dataclass(frozen=True)
class Pieces:
    """Some users, and what the scores of several candidates for them have in common, worked out once.

    Of what was made the two that were asked for last are kept: candidates that share something stand side by side.
    """

    rows: slice
    made: dict[Hashable, torch.Tensor] = field(default_factory=dict)
    rooms: Rooms = field(default_factory=Rooms)

    def room(self, name: str, n_items: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Return memory for scores, ``[rows, n_items]``: the same as for other pieces.

        Args:
            name: what it is for.
            n_items: of the catalogue.
            dtype: of the scores.
        """
        return self.rooms.take(name, (self.rows.stop - self.rows.start, n_items), dtype)

    def of(self, key: Hashable, make: Callable[[slice], torch.Tensor], *, alone: bool = False) -> torch.Tensor:
        """Return ``make(rows)``, made by the first who asks for ``key``; it must not be changed.

        Args:
            key: what it is made of.
            make: makes it.
            alone: nothing else is kept beside it.
        """
        found = self.made.pop(key, None)
        for oldest in list(self.made)[: len(self.made) if alone else -1]:
            del self.made[oldest]
        self.made[key] = make(self.rows) if found is None else found
        return self.made[key]


Candidate = Callable[[Pieces], torch.Tensor]
"""Gives the scores of all items for the users of some pieces, ``[rows, n_items]``; they are used up.

A :class:`~recbole_signed.ssf.shortlist.FactorCandidate` may also find the best items without them.
"""
