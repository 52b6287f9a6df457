"""The largest scores of each user: fast in a large catalogue, and in one order where scores are equal."""

from __future__ import annotations

import torch

CHUNK = 64
"""Scores of which the largest is taken first: the best k lie in the k chunks with the largest scores."""
CHUNKS_FROM = 1 << 13
"""Scores of a user from which on the best of each are found faster by chunks."""
LONG = 1 << 16
"""Scores of a user from which on the evaluation goes by chunks, too. The time is that of one maximum instead of that of
``torch.topk``, a fourth. Which of equal scores come first differs, so that smaller catalogues keep the order of torch.
"""


def largest(scores: torch.Tensor, k: int, chunks_from: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ``k`` largest scores of each row and their places, two ``[n_rows, k]``, the largest first.

    Args:
        scores: ``[n_rows, n]``; NaN counts as the largest.
        k: at most n.
        chunks_from: shorter rows, and those of few chunks, are left to ``torch.topk``.
    """
    n = scores.shape[1]
    if n < max(4 * k * CHUNK, chunks_from):
        values, places = torch.topk(scores, k, dim=1)
        return values, places
    whole = n - n % CHUNK
    return _of_chunks(scores, k, scores[:, :whole].unflatten(1, (-1, CHUNK)).amax(dim=2))


def best_of_each(scores: torch.Tensor, k: int, keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ``k`` best scores of each row and their columns, two ``[n_rows, <= k]``.

    Items are numbered by the order in which they came. Lists are not to depend on it, so what decides between equal
    scores is a key of the item: a hash of its id, as ids themselves often follow age or popularity.

    Args:
        scores: ``[n_rows, n_columns]``; NaN comes first.
        k: how many.
        keys: int64 ``[>= n_columns]``; of equal scores that with the smallest key comes first.
    """
    values, best = largest(scores, min(k + 1, scores.shape[1]), CHUNKS_FROM)
    same = values[:, 1:] == values[:, :-1]
    tied = (same & (values[:, 1:] > -torch.inf)).any(dim=1) if bool(same.any()) else None
    values, best = values[:, :k], best[:, :k]
    if tied is None or not bool(tied.any()):
        return values, best
    # of the rows with ties alone, all that may be among the best
    some = scores[tied]
    row, column = torch.nonzero(~(some < values[tied][:, -1:]), as_tuple=True)
    found = some[row, column]
    order = keys[column].argsort(stable=True)
    order = order[found[order].argsort(descending=True, stable=True)]
    order = order[row[order].argsort(stable=True)]
    first = torch.searchsorted(row, torch.arange(len(some), device=row.device))
    chosen = order[first[:, None] + torch.arange(values.shape[1], device=row.device)]
    values, best = values.clone(), best.clone()
    values[tied], best[tied] = found[chosen], column[chosen]
    return values, best


def largest_positive(scores: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what :func:`largest` does for scores in bfloat16, in a fraction of its time.

    Positive numbers are in the order of their bits, of which whole numbers are faster to compare. So what is returned
    for a row with fewer than ``k`` positive scores need not be its largest ones; its last value is not positive.

    Args:
        scores: bfloat16 ``[n_rows, n]``, without NaN.
        k: at most n / :data:`CHUNK`.
    """
    whole = scores.shape[1] - scores.shape[1] % CHUNK
    bits = scores[:, :whole].view(torch.int16).unflatten(1, (-1, CHUNK)).amax(dim=2)
    values, places = _of_chunks(scores, k, bits.view(torch.bfloat16).float())
    return values.float(), places


def _of_chunks(scores: torch.Tensor, k: int, maxima: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ``k`` largest scores and their places, given the maxima of whole chunks, ``[n_rows, n // CHUNK]``."""
    n, whole = scores.shape[1], maxima.shape[1] * CHUNK
    best = maxima.topk(k, dim=1).indices
    inside, rest = torch.arange(CHUNK, device=best.device), torch.arange(whole, n, device=best.device)
    candidates = torch.cat([(best[:, :, None] * CHUNK + inside).flatten(1), rest.expand(len(best), -1)], dim=1)
    values, places = scores.gather(1, candidates).topk(k, dim=1)
    return values, candidates.gather(1, places)
