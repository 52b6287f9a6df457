"""Drawing the first place of a list, so that policies which never ran can be judged from what was logged.

``explore`` draws it from the best :data:`CANDIDATES` and logs its probability under all policies of the experiment;
``young`` raises scores by how little is known of items; ``new_slots`` draws last places, once a day for a user.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from recbole_signed.ssf.item_counters import UNKNOWN

CANDIDATES = 20  # items that the first place is drawn from
POOL = 200  # best items by the model's score that a bonus for young ones can raise


def probabilities(scores: npt.NDArray[np.floating], temperature: float) -> npt.NDArray[np.float64]:
    """Return the probability that each of ``scores``, best first, comes first; 0 as temperature takes the best."""
    found = np.zeros(len(scores))
    unit = temperature * _spread(scores)  # the temperature is in standard deviations of the scores
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
    """Return how uncertain the like rates of items are, ``[n]``: sqrt(3 / (n + 3)), 1 for one without a verdict."""
    # standard deviation of the beta distribution of evenly divided verdicts, over that of the uniform prior
    return np.sqrt(3 / (3 + verdicts.astype(np.float64)))


def raised(
    scores: npt.NDArray[np.floating], verdicts: npt.NDArray[Any], weight: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return the order of ``scores``, best first, with a bonus for what is not known, and the raised ones, ``[n]``."""
    unit = weight * _spread(scores[:CANDIDATES])  # of the bonus of an item without a verdict
    found = scores.astype(np.float64) + unit * uncertainty(verdicts)
    order = np.argsort(-found, kind="stable")
    return order, found[order]


def drawn_few(scores: npt.NDArray[np.floating], n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return n places of ``scores``, fewer if there are no more, drawn by :func:`probabilities` at temperature 1."""
    with np.errstate(divide="ignore"):
        likely = np.log(probabilities(scores, 1.0))
    return np.argsort(-(likely + rng.gumbel(size=len(scores))), kind="stable")[:n]


def to_the_front(place: int, n: int) -> npt.NDArray[np.int64]:
    """Return the order of ``n`` candidates in which the one at ``place`` comes first, and the others as they were."""
    order = np.arange(n)
    return np.concatenate([order[place : place + 1], order[:place], order[place + 1 :]])
