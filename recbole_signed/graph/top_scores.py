"""The largest scores of each user: fast in a large catalogue, and in one order where scores are equal."""

from __future__ import annotations

import torch

CHUNK = 64  # scores of which the largest is taken first: the best k lie in the k chunks with the largest scores
CHUNKS_FROM = 1 << 13  # scores of a user from which on the best of each are found faster by chunks
MANY = 64  # times k: of so many scores that may be among the best k those alone are sorted that win by their keys
LONG = 1 << 16  # scores of a user from which on they are searched by chunks, four times as fast; ties differ


def largest(scores: torch.Tensor, k: int, chunks_from: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ``k`` largest scores of each row and their places, two ``[n_rows, k]``; NaN counts as the largest."""
    n = scores.shape[1]
    if n < max(4 * k * CHUNK, chunks_from):
        values, places = torch.topk(scores, k, dim=1)
        return values, places
    whole = n - n % CHUNK
    return _of_chunks(scores, k, scores[:, :whole].unflatten(1, (-1, CHUNK)).amax(dim=2))


def best_of_each(scores: torch.Tensor, k: int, keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ``k`` best scores of each row and their columns, ``[n_rows, <= k]``; the smaller key wins a tie."""
    values, best = largest(scores, min(k + 1, scores.shape[1]), CHUNKS_FROM)
    same = values[:, 1:] == values[:, :-1]
    tied = (same & (values[:, 1:] > -torch.inf)).any(dim=1) if bool(same.any()) else None
    values, best = values[:, :k], best[:, :k]
    if tied is None or not bool(tied.any()):
        return values, best
    # of the rows with ties alone, all that may be among the best
    some = scores[tied]
    row, column = _in_question(some, values[tied][:, -1:], values.shape[1], keys)
    candidates = some[row, column]
    order = keys[column].argsort(stable=True)
    order = order[candidates[order].argsort(descending=True, stable=True)]
    order = order[row[order].argsort(stable=True)]
    counts = torch.bincount(row, minlength=len(some))
    chosen = order[(counts.cumsum(0) - counts)[:, None] + torch.arange(values.shape[1], device=row.device)]
    values, best = values.clone(), best.clone()
    values[tied], best[tied] = candidates[chosen], column[chosen]
    return values, best


def _in_question(
    scores: torch.Tensor, last: torch.Tensor, k: int, keys: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return row and column of scores that may be among the ``k`` best of a row, whose k-th is ``last [n_rows, 1]``.

    Where many equal the last, as the zeros of a sparse model do, those with the smallest keys alone.
    """
    reaches = ~(scores < last)  # as is NaN
    many = reaches.sum(dim=1) > MANY * k
    row, column = torch.nonzero(reaches & ~many[:, None], as_tuple=True)
    if not bool(many.any()):
        return row, column
    wide = many.nonzero().squeeze(1)
    scores, last, by_key = scores[wide], last[wide], keys.argsort(stable=True)
    above = ~(scores <= last)
    rows, columns = torch.nonzero(above, as_tuple=True)
    pairs, lacking, start = [(row, column), (wide[rows], columns)], k - above.sum(dim=1), 0
    while bool((lacking > 0).any()):
        part = by_key[start : 2 * start + MANY * k]
        equal = scores[:, part] == last
        equal &= equal.cumsum(dim=1) <= lacking[:, None]
        rows, columns = torch.nonzero(equal, as_tuple=True)
        pairs.append((wide[rows], part[columns]))
        lacking, start = lacking - equal.sum(dim=1), start + len(part)
    row, column = map(torch.cat, zip(*pairs, strict=True))
    return row, column


def largest_positive(scores: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what :func:`largest` does for positive bfloat16 scores, by comparing bits; others are in no order."""
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
