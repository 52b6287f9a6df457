"""The best items of users in a large catalogue: a product in bfloat16 gives a shortlist, exact scores order it.

The product takes a fifth of the time of float32, with errors of some thousandths; a user for whom the error on the
shortlist leaves doubt is scored exactly as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import torch

from recbole_signed.graph import LONG, SignedGraph
from recbole_signed.graph.top_scores import CHUNK, largest, largest_positive
from recbole_signed.ssf.filter import SpectralFilter

ITEMS, PER_PLACE = 32, 2
"""Items of a shortlist: so many, and for long lists so many for each of its places."""
DOUBT = 2.0
"""How many times the largest error on the shortlist may be, at most, for an item beyond it."""

Made = TypeVar("Made")
FactorsOf = Callable[[slice], torch.Tensor]
"""Gives the factors of some users by a range of their rows, ``[rows, <= k]``."""


class Rooms:
    """Memory that is used again, as the kernel's is slow to get."""

    def __init__(self) -> None:
        self._held: dict[str, torch.Tensor] = {}

    def take(self, name: str, shape: tuple[int, int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Return uninitialised memory of a shape, the same for a name as before."""
        held, size = self._held.get(name), shape[0] * shape[1]
        if held is None or len(held) < size or held.dtype != dtype:
            held = self._held[name] = torch.empty(size, dtype=dtype)
        return held[:size].view(shape)


@dataclass(frozen=True)
class Pieces:
    """Some users, and what the scores of candidates for them share: the last two things made are kept."""

    rows: slice
    made: dict[Hashable, Any] = field(default_factory=dict)
    rooms: Rooms = field(default_factory=Rooms)

    def room(self, name: str, n_items: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Return memory for scores, ``[rows, n_items]``: the same as for other pieces."""
        return self.rooms.take(name, (self.rows.stop - self.rows.start, n_items), dtype)

    def get(self, key: Hashable, make: Callable[[slice], Made], *, alone: bool = False) -> Made:
        """Return ``make(rows)``, made once for a key, not to be changed; ``alone``: nothing is kept beside it."""
        kept = self.made.pop(key, None)
        for oldest in list(self.made)[: len(self.made) if alone else -1]:
            del self.made[oldest]
        made: Made = make(self.rows) if kept is None else kept
        self.made[key] = made
        return made


Candidate = Callable[[Pieces], torch.Tensor]
"""Gives the scores of all items for some users, ``[rows, n_items]``; they are used up."""


class ShortVectors:
    """Item vectors in bfloat16, made when they are first needed, of float32 ``[n_items, k]``."""

    def __init__(self, vectors: torch.Tensor) -> None:
        self.vectors = vectors

    @property
    def pay(self) -> bool:
        """Whether they save time: in a large catalogue, on a CPU that multiplies them."""
        return self.vectors.device.type == "cpu" and len(self.vectors) >= LONG and multiplies_bfloat16()

    def pay_for(self, k: int) -> bool:
        """Return whether they do so for lists of ``k`` items."""
        return self.pay and shortlisted(k) * CHUNK <= len(self.vectors) // 4

    @cached_property
    def short(self) -> torch.Tensor:
        """The vectors, bfloat16 ``[n_items, k]``."""
        return self.vectors.bfloat16()

    def exposure_of(self, factors: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Return about what :meth:`SpectralFilter.exposure_of` does, bfloat16."""
        return torch.mm(factors.bfloat16(), self.short[:, : factors.shape[1]].T, out=out)


def multiplies_bfloat16() -> bool:
    """Return whether the CPU has instructions for products in bfloat16."""
    can = torch.cpu.get_capabilities()
    return bool(can.get("avx512_bf16") or can.get("amx_bf16"))


@dataclass(frozen=True)
class Affine:
    """What a filter makes of exposure scores x, about: slope * x + offset, bfloat16 ``[n_items]`` each."""

    slope: torch.Tensor
    offset: torch.Tensor

    @classmethod
    def from_filter(cls, fitted: SpectralFilter) -> Affine:
        """Return that of a filter, for users of whom something is known."""
        factor = torch.ones_like(fitted.prior) if fitted.factor is None else fitted.factor
        return cls(factor.bfloat16(), (fitted.prior * factor).bfloat16())

    def applied(self, exposure: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Return about what :meth:`SpectralFilter.finished` does, bfloat16 ``[n_users, n_items]``."""
        return torch.addcmul(self.offset.expand_as(out), exposure, self.slope.expand_as(out), out=out)


@dataclass(frozen=True)
class Shortlist:
    """The items that come into question, with their exact scores."""

    items: torch.Tensor
    """int64 ``[n_users, c]``."""
    scores: torch.Tensor
    """``[n_users, c]``; -inf for what is hidden."""
    doubtful: torch.Tensor
    """Rows of users whose best items may lie elsewhere, int64."""

    @classmethod
    def from_scores(cls, approximate: torch.Tensor, k: int, exact: Callable[[torch.Tensor], torch.Tensor]) -> Shortlist:
        """Take the items of the largest scores, bfloat16 ``[n_users, n_items]``; ``exact`` scores them again."""
        near, items = largest_positive(approximate, shortlisted(k))
        scores = exact(items)
        error, last = (scores - near).abs_().amax(dim=1), scores.topk(k, dim=1).values[:, -1]
        sure = (near[:, -1] > 0) & (last - near[:, -1] >= DOUBT * error)
        return cls(items, scores, torch.nonzero(~sure).ravel())


def shortlisted(k: int) -> int:
    """Return how many items are scored exactly for the best ``k``."""
    return max(ITEMS, PER_PLACE * k)


@dataclass(frozen=True)
class FactorCandidate:
    """Scores validation users by factors; a :data:`~recbole_signed.ssf.shortlist.Candidate`."""

    fitted: SpectralFilter
    users: SignedGraph
    """All validation users."""
    factors: FactorsOf
    key: Hashable
    """Of what gives the exposure scores: candidates with the same one share them."""
    strangers: torch.Tensor | None
    """Of all users, see :meth:`SpectralFilter.strangers`; None: something is known of all of them."""
    short: ShortVectors | None = None
    """Of the filter's vectors; None: all scores are exact."""

    def __call__(self, pieces: Pieces) -> torch.Tensor:
        """Return the scores of all items."""
        room = pieces.room("exposure", self.users.n_items)
        # the factors of all users, of each of several candidates, would be more than the scores
        made = pieces.get(self.key, lambda rows: self.fitted.exposure_of(self.factors(rows), room), alone=True)
        out = pieces.room("scores", self.users.n_items)
        strangers = None if self.strangers is None else self.strangers[pieces.rows]
        return self.fitted.finished(made, out=out, strangers=strangers)

    def best(
        self, pieces: Pieces, hide: Callable[[torch.Tensor], None], k: int
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return the ``k`` largest scores and their items, ``[rows, k]`` each; None where all scores are needed."""
        short, n_items = self.short, self.users.n_items
        if short is None or not short.pay_for(k) or self.strangers is not None:
            return None
        factors = self.factors(pieces.rows)
        room = pieces.room("short exposure", n_items, torch.bfloat16)
        exposure = pieces.get(("short", self.key), lambda _: short.exposure_of(factors, room), alone=True)
        scores = self._line.applied(exposure, pieces.room("short scores", n_items, torch.bfloat16))
        hide(scores)
        shortlist = Shortlist.from_scores(scores, k, lambda items: self.fitted.scores_of(factors, items))
        values, places = shortlist.scores.topk(k, dim=1)
        items = shortlist.items.gather(1, places)
        if len(rows := shortlist.doubtful):
            exact = self.fitted.finished(self.fitted.exposure_of(factors[rows]))
            values[rows], items[rows] = largest(exact.masked_fill_(torch.isneginf(scores[rows]), -torch.inf), k, LONG)
        return values, items

    @cached_property
    def _line(self) -> Affine:
        return Affine.from_filter(self.fitted)
