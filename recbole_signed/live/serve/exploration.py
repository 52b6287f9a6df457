"""Drawing the first place of a list, so that policies which never ran can be judged from what was logged.

``explore`` draws the first item from the best :data:`CANDIDATES` by the softmax of the scores, and logs its probability
under each policy; ``young`` adds an upper confidence bound's bonus for what is not known of an item's like rate;
``new_slots`` keeps the last places for items with few verdicts, drawn once a day for a user.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from recbole_signed.ssf.item_counters import UNKNOWN

CANDIDATES = 20  # items that the first place is drawn from
POOL = 200  # best items by the model's score that a bonus for young ones can raise


def probabilities(scores: npt.NDArray[np.floating], temperature: float) -> npt.NDArray[np.float64]:
    """Return with which probability each candidate comes first; ``temperature`` in standard deviations of scores."""
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
    r"""Return how uncertain the like rates of items with n verdicts are, :math:`\sqrt{3 / (n + 3)}`."""
    return np.sqrt(3 / (3 + verdicts.astype(np.float64)))


def raised(
    scores: npt.NDArray[np.floating], verdicts: npt.NDArray[Any], weight: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return the order of candidates with a bonus for what is not known of them, and their scores, ``[n]`` each."""
    unit = weight * _spread(scores[:CANDIDATES])
    found = scores.astype(np.float64) + unit * uncertainty(verdicts)
    order = np.argsort(-found, kind="stable")
    return order, found[order]


def drawn_few(scores: npt.NDArray[np.floating], n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return ``n`` places of candidates, drawn one after the other as :func:`probabilities` at temperature 1 says."""
    with np.errstate(divide="ignore"):
        likely = np.log(probabilities(scores, 1.0))
    return np.argsort(-(likely + rng.gumbel(size=len(scores))), kind="stable")[:n]


def to_the_front(place: int, n: int) -> npt.NDArray[np.int64]:
    """Return the order of ``n`` candidates in which the one at ``place`` comes first, and the others as they were."""
    order = np.arange(n)
    return np.concatenate([order[place : place + 1], order[:place], order[place + 1 :]])
