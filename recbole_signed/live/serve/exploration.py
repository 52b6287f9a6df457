"""Drawing the first place of a list, so that policies which never ran can be judged from what was logged.

A variant with ``explore`` above 0 draws the first item of a list from its best :data:`CANDIDATES` with probabilities
that follow the scores (softmax); the others follow in order. With the item the log keeps its probability, and that with
which every other variant and policy of the experiment would have put the same item first at that moment.

A variant with ``young`` above 0 adds an upper confidence bound's bonus to the scores: for what is not known of the like
rate of an item. Nothing is drawn for that; with ``explore`` the probabilities are those of the raised scores.

``new_items`` in the settings, or ``new_slots`` of a variant, keeps the last places of each list for items with few
verdicts. They are drawn from the best of them by the user's scores, once a day for a user, so that what they lead to
can be told apart (`quality.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from recbole_signed.ssf.item_counters import UNKNOWN

CANDIDATES = 20
"""Items that the first place is drawn from."""
POOL = 200
"""Best items by the model's score that a bonus for young ones can raise."""


def probabilities(scores: npt.NDArray[np.floating], temperature: float) -> npt.NDArray[np.float64]:
    """Return with which probability each candidate comes first.

    Args:
        scores: ``[n]`` best first.
        temperature: in standard deviations of the scores; 0 puts the best first.
    """
    found = np.zeros(len(scores))
    unit = temperature * _spread(scores)
    if len(scores) and not temperature:
        found[0] = 1.0
    elif len(scores):
        with np.errstate(over="ignore"):  # of a tiny unit: the best comes first
            found = np.exp((scores - np.max(scores)).astype(np.float64) / (unit or 1.0))
        found /= found.sum()
    return found


def _spread(scores: npt.NDArray[np.floating]) -> float:
    """Return the standard deviation of scores, less those of items that nobody has an edge to, which are far below."""
    known = scores[scores > UNKNOWN].astype(np.float64)
    return float(np.std(known)) if len(known) else 0.0


def uncertainty(verdicts: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    r"""Return how uncertain the like rates of items are, 1 for an item without a verdict, ``[n]``.

    The standard deviation of the beta distribution that a uniform prior and evenly divided verdicts lead to, over that
    of the prior: :math:`\sqrt{3 / (n + 3)}`.

    Args:
        verdicts: likes and dislikes of each item, ``[n]``.
    """
    return np.sqrt(3 / (3 + verdicts.astype(np.float64)))


def raised(
    scores: npt.NDArray[np.floating], verdicts: npt.NDArray[Any], weight: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return the order of candidates with a bonus for what is not known of them, and their scores in it, ``[n]`` each.

    Args:
        scores: ``[n]`` best first.
        verdicts: likes and dislikes of each, ``[n]``.
        weight: of the bonus of an item without a verdict, in standard deviations of the best :data:`CANDIDATES` scores.
    """
    unit = weight * _spread(scores[:CANDIDATES])
    found = scores.astype(np.float64) + unit * uncertainty(verdicts)
    order = np.argsort(-found, kind="stable")
    return order, found[order]


def drawn_few(scores: npt.NDArray[np.floating], n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return ``n`` places of candidates, drawn one after the other as :func:`probabilities` at temperature 1 says.

    Args:
        scores: ``[n_candidates]`` best first.
        n: how many; fewer where there are no more.
        rng: that draws.
    """
    with np.errstate(divide="ignore"):
        likely = np.log(probabilities(scores, 1.0))
    return np.argsort(-(likely + rng.gumbel(size=len(scores))), kind="stable")[:n]


def to_the_front(place: int, n: int) -> npt.NDArray[np.int64]:
    """Return the order of ``n`` candidates in which the one at ``place`` comes first, and the others as they were."""
    order = np.arange(n)
    return np.concatenate([order[place : place + 1], order[:place], order[place + 1 :]])
