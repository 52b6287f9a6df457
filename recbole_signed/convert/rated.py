"""What the sources of ratings have in common: two conditions on the rating, a scale, a time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import ClassVar

from recbole_signed.convert.base import Converter, Part
from recbole_signed.convert.batch import Batch
from recbole_signed.convert.clock import Clock
from recbole_signed.convert.columns import number, rule_from, sign_by_rule, token
from recbole_signed.convert.sign_rule import SignRule


class Rated(Converter):
    """A source of ratings; its options have ``like`` and ``dislike``.

    A subclass gives :meth:`raw_batches`; the rest of a rating source is here.
    """

    scale: ClassVar[tuple[float, float]]
    """Lowest and highest rating; others are refused, so that swapped columns do not pass."""

    @property
    def rule(self) -> SignRule:
        """The rule of the options; ``dislike=none`` makes no dislikes."""
        rule = rule_from(self.options.like, self.options.dislike)
        assert rule is not None
        return rule

    @abstractmethod
    def raw_batches(self) -> Iterator[Batch]:
        """Give ``user_id``, ``item_id``, ``rating`` and, where there is one, ``timestamp``, as they are in the file."""

    def clock(self) -> Clock:
        """Give the clock of the source."""
        return Clock("s")

    def parts(self) -> Iterable[Part]:
        """One part: all ratings."""
        yield Part(None, self._batches())

    def _batches(self) -> Iterator[Batch]:
        clock = self.clock()
        low, high = self.scale
        for batch in self.raw_batches():
            batch = token(token(batch, "user_id"), "item_id")
            batch = number(batch, "rating", purpose="the rating")
            rating = batch.frame["rating"]
            batch = batch.require(
                rating.is_between(low, high),
                lambda i, rating=rating: f"rating {rating[i]:g}, ratings here go from {low:g} to {high:g}",  # type: ignore[misc]
                "rating",
            )
            if "timestamp" in batch.frame.columns:
                batch = clock.seconds(batch, "timestamp")
            yield sign_by_rule(batch, self.rule)
