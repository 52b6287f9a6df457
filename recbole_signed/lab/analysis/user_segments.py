"""Segments of users and of items: k-means on the factors of a fitted filter, and who likes what.

Factors are scaled to length 1, since length is activity and popularity, not taste (spherical k-means).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from recbole_signed.errors import UsageError, argument
from recbole_signed.files import picture, replace_text
from recbole_signed.plugin.facts import display_name
from recbole_signed.table import Header, Section, Table, text_lines

if TYPE_CHECKING:
    from recbole_signed.graph import SignedGraph
    from recbole_signed.ssf import SpectralFilter

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

ROWS = 65_536  # users that are projected at a time
SAMPLE = 50_000  # points that the centres are fitted to; all points are then assigned
STARTS = 5  # random starts of k-means, of which the best is taken
ROUNDS = 50
MOST = 100  # segments of a side: more are not read, and k-means takes minutes over thousands of centres
EXAMPLES = 5  # best-liked items that are named for each item segment


def user_factors(fitted: SpectralFilter, graph: SignedGraph, users: IntArray) -> FloatArray:
    """Return the factors of some users of a graph, of length 1, ``[len(users), k]``."""
    rows = graph.rows(users)
    factors = fitted.project(rows) * fitted.response(fitted.degrees(rows)).sqrt()
    return _unit(factors.cpu().numpy())


def item_factors(fitted: SpectralFilter) -> FloatArray:
    """Return the factors of all items, of length 1 (0 for an item without edges), ``[n_items, k]``."""
    median = fitted.values.new_tensor([fitted.median_degree])
    return _unit((fitted.vectors[:, : fitted.k] * fitted.response(median).sqrt()).cpu().numpy())


def _unit(factors: FloatArray) -> FloatArray:
    length = np.linalg.norm(factors, axis=1, keepdims=True)
    return (factors / np.where(length > 0, length, 1)).astype(np.float32, copy=False)


def centres(points: FloatArray, k: int, seed: int) -> FloatArray:
    """Return the centres of k-means++, at most ``k`` of them, ``[<= k, d]``; those without a point are left out."""
    import warnings

    from scipy.cluster.vq import kmeans2, vq

    k = min(k, len(np.unique(points, axis=0)))
    best: tuple[float, FloatArray] | None = None
    for start in range(STARTS):
        rng = np.random.default_rng([seed, start])
        with warnings.catch_warnings():  # of clusters without a point, which are left out below
            warnings.filterwarnings("ignore", "One of the clusters is empty", UserWarning)
            candidates, _ = kmeans2(points, k, iter=ROUNDS, minit="++", seed=rng)
        label, distance = vq(points, candidates)
        inertia = float(np.square(distance).sum())
        if best is None or inertia < best[0]:
            best = inertia, candidates[np.unique(label)]
    assert best is not None
    return best[1]


def segments(
    dataset: str,
    n_user_segments: int = 8,
    n_item_segments: int = 8,
    model: str = "SSF",
    config_files: Sequence[str | Path] = (),
    overrides: Mapping[str, Any] | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """Fit a model, cut its users and items into segments, and count who likes what in the training part.

    Args:
        dataset: name of a data set.
        n_user_segments: how many segments of users; fewer where there are fewer users.
        n_item_segments: the same of items.
        model: ``SSF``, or a class name of another model with its filter.
        config_files: RecBole yaml files, later ones win.
        overrides: configuration keys above the files.
        seed: RecBole's ``seed``, and that of k-means.

    Returns:
        ``users`` and ``items``: lists of segments, largest first, each with its ``size``, ``likes``, ``dislikes`` and
        ``like_rate``, an item segment with its best-liked ``examples`` too; ``like_rate[u][i]``: the share of likes
        among the verdicts of user segment u on item segment i, None where there are none; ``verdicts[u][i]``: how
        many; ``assigned``: token -> segment of every user and every item with an edge.

    Raises:
        UsageError: a number of segments below 1 or above 100, no edge to go by, or as in :func:`~.fitted.fit_once`.
    """
    from recbole_signed.runs.fitted import fit_once

    for name, option, count in (
        ("n_user_segments", "--users", n_user_segments),
        ("n_item_segments", "--items", n_item_segments),
    ):
        if not 1 <= count <= MOST:
            raise UsageError(f"{argument(name, option=option)} is {count:,}; it must be 1 to {MOST}.")
    fitted = fit_once(model, dataset, config_files, overrides, seed, attribute="filter")
    config, graph = fitted.config, fitted.model.graph
    labels = label_nodes(fitted.model.filter, graph, n_user_segments, n_item_segments, int(config["seed"]))
    tokens = [fitted.data.field2id_token[config[f"{side}_ID_FIELD"]] for side in ("USER", "ITEM")]
    counts = _counts(graph, *labels)
    popularity = np.bincount(graph.likes.indices, minlength=graph.n_items)
    return {
        "model": config["model"],
        "dataset": config["dataset"],
        "seed": int(config["seed"]),
        "users": _sides(labels[0], counts, 1),
        "items": [
            {**segment, "examples": _examples(labels[1] == number, popularity, tokens[1])}
            for number, segment in enumerate(_sides(labels[1], counts, 0))
        ],
        "like_rate": [[_rate(*pair) for pair in zip(*row, strict=True)] for row in zip(*counts, strict=True)],
        "verdicts": (counts[0] + counts[1]).tolist(),
        "assigned": {
            side: {str(names[node]): int(label[node]) for node in np.flatnonzero(label >= 0)}
            for side, names, label in zip(("users", "items"), tokens, labels, strict=True)
        },
    }


def label_nodes(
    fitted: SpectralFilter, graph: SignedGraph, n_user_segments: int, n_item_segments: int, seed: int
) -> tuple[IntArray, IntArray]:
    """Return the segment of each user ``[n_users]`` and item ``[n_items]``, from 0, largest first; -1: no edges."""
    from scipy.cluster.vq import vq

    degree = np.diff(graph.likes.indptr) + np.diff(graph.dislikes.indptr)
    users = np.flatnonzero(degree)
    items = np.flatnonzero(fitted.known().cpu().numpy())
    if not len(users) or not fitted.k:
        raise UsageError("the training part has no edge to make segments of.")
    rng = np.random.default_rng(seed)
    sample = users if len(users) <= SAMPLE else np.sort(rng.choice(users, SAMPLE, replace=False))
    middle = centres(user_factors(fitted, graph, sample), n_user_segments, seed)
    of_user = np.concatenate(
        [
            vq(user_factors(fitted, graph, users[first : first + ROWS]), middle)[0]
            for first in range(0, len(users), ROWS)
        ]
    )
    points = item_factors(fitted)[items]
    drawn = points if len(points) <= SAMPLE else points[rng.choice(len(points), SAMPLE, replace=False)]
    of_item = vq(points, centres(drawn, n_item_segments, seed))[0]
    return _ordered(graph.n_users, users, of_user), _ordered(graph.n_items, items, of_item)


def _ordered(n: int, nodes: IntArray, label: IntArray) -> IntArray:
    order = np.argsort(-np.bincount(label), kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    labels = np.full(n, -1, dtype=np.int64)
    labels[nodes] = rank[label]
    return labels


def _counts(graph: SignedGraph, of_user: IntArray, of_item: IntArray) -> tuple[IntArray, IntArray]:
    """Return the likes and the dislikes of each user segment for each item segment."""
    shape = (int(of_user.max()) + 1, int(of_item.max()) + 1)
    counts = []
    for edges in (graph.likes, graph.dislikes):
        pairs = np.repeat(of_user, np.diff(edges.indptr)) * shape[1] + of_item[edges.indices]
        counts.append(np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape))
    return counts[0], counts[1]


def _sides(label: IntArray, counts: tuple[IntArray, IntArray], axis: int) -> list[dict[str, Any]]:
    sizes = np.bincount(label[label >= 0])
    likes, dislikes = (table.sum(axis=axis).tolist() for table in counts)
    return [
        {"size": int(size), "likes": p, "dislikes": n, "like_rate": _rate(p, n)}
        for size, p, n in zip(sizes, likes, dislikes, strict=True)
    ]


def _rate(likes: int, dislikes: int) -> float | None:
    return round(float(likes / (likes + dislikes)), 6) if likes + dislikes else None


def _examples(inside: npt.NDArray[np.bool_], popularity: IntArray, tokens: Sequence[str]) -> list[str]:
    members = np.flatnonzero(inside)
    best = members[np.argsort(-popularity[members], kind="stable")][:EXAMPLES]
    return [str(tokens[item]) for item in best]


def write_assigned(cut: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write ``MODEL-DATASET-users.tsv`` and ``-items.tsv``: token and segment of each user and item."""
    written = []
    for side, assigned in cut["assigned"].items():
        path = folder / f"{cut['model']}-{cut['dataset']}-{side}.tsv"
        rows = "".join(f"{token}\t{segment}\n" for token, segment in assigned.items())
        replace_text(path, f"{side[:-1]}\tsegment\n{rows}")
        written.append(path)
    return written


def segments_table(cut: Mapping[str, Any]) -> Table:
    """Return sizes and like rates as a table."""
    sections = []
    for side in ("users", "items"):
        names = ["Size", "Likes", "Dislikes", "Like rate"]
        rows = [
            (
                number,
                *(f"{segment[key]:,}" for key in ("size", "likes", "dislikes")),
                _cell(segment["like_rate"]),
                *([", ".join(segment["examples"])] if "examples" in segment else []),
            )
            for number, segment in enumerate(cut[side])
        ]
        examples = [Header("Best liked", left=True)] if rows and len(rows[0]) > 1 + len(names) else []
        sections.append(Section(side.capitalize(), text_lines(rows), columns=(*map(Header, names), *examples)))
    rates = [(number, *map(_cell, row)) for number, row in enumerate(cut["like_rate"])]
    columns = tuple(Header(str(number)) for number in range(len(cut["items"])))
    sections.append(
        Section("Like rate of user segment (row) for item segment (column)", text_lines(rates), "", columns)
    )
    title = f"{display_name(cut['model'])} on {cut['dataset']}, seed {cut['seed']}: segments by the training part"
    return Table(title, (), tuple(sections), head=(Header("Segment"),))


def _cell(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.3f}"


def draw_segments(cut: Mapping[str, Any], path: Path) -> None:
    """Draw the like rates as a heat map, PNG."""
    rates = np.array([[np.nan if rate is None else rate for rate in row] for row in cut["like_rate"]])
    with picture(path, 2.5 + 0.75 * rates.shape[1], 2 + 0.5 * rates.shape[0]) as page:
        cell = page.subplots()
        image = cell.imshow(rates, vmin=0, vmax=1, cmap="RdBu", aspect="auto")
        page.colorbar(image, label="like rate")
        for u, i in np.argwhere(~np.isnan(rates)):
            color = "white" if abs(rates[u, i] - 0.5) > 0.3 else "black"  # both ends of the colours are dark
            cell.text(i, u, f"{rates[u, i]:.2f}", ha="center", va="center", fontsize=8, color=color)
        for axis, side, ticks in (("x", "items", cell.set_xticks), ("y", "users", cell.set_yticks)):
            ticks(range(len(cut[side])), [f"{number}\n{segment['size']:,}" for number, segment in enumerate(cut[side])])
            getattr(cell, f"set_{axis}label")(f"{side[:-1]} segment, size")
        cell.set_title(f"{cut['dataset']}: like rates of segments")
