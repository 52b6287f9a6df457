"""Drawing the first place of a list, so that policies which never ran can be judged from what was logged.

A variant with ``explore`` above 0 draws the first item of a list from its best :data:`CANDIDATES` with probabilities
that follow the scores (softmax); the others follow in order. With the item the log keeps its probability, and that with
which every other variant and policy of the experiment would have put the same item first at that moment.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

CANDIDATES = 20
"""Items that the first place is drawn from."""


def probabilities(scores: npt.NDArray[np.floating], temperature: float) -> npt.NDArray[np.float64]:
    """Return with which probability each candidate comes first.

    Args:
        scores: ``[n]`` best first.
        temperature: in standard deviations of the scores; 0 puts the best first.
    """
    found = np.zeros(len(scores))
    unit = temperature * float(np.std(scores)) if len(scores) else 0.0
    if len(scores) and not temperature:
        found[0] = 1.0
    elif len(scores):
        with np.errstate(over="ignore"):  # of a tiny unit: the best comes first
            found = np.exp((scores - np.max(scores)).astype(np.float64) / (unit or 1.0))
        found /= found.sum()
    return found


def to_the_front(place: int, n: int) -> npt.NDArray[np.int64]:
    """Return the order of ``n`` candidates in which the one at ``place`` comes first, and the others as they were."""
    order = np.arange(n)
    return np.concatenate([order[place : place + 1], order[:place], order[place + 1 :]])
