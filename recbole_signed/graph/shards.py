"""A signed graph on disk: a folder of shards, each the edges of a range of users as CSR, 4 bytes an edge."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

from recbole_signed.errors import UsageError
from recbole_signed.graph.signed_graph import SignedGraph
from recbole_signed.graph.sparse_kernels import IndexArray

PIECE = 1 << 24  # edges that are counted at a time
Csr = tuple[IndexArray, IndexArray]  # `indptr [n_users + 1]` from 0 and `indices [n_edges]` of a 0/1 matrix
EdgeArrays = tuple[npt.NDArray[np.integer], npt.NDArray[np.integer], npt.NDArray[np.integer]]  # users, items, signs

FORMAT = 1
LARGEST = 2**31 - 1
RECORD = "shards.json"
SIGNS = ("likes", "dislikes")


@dataclass(frozen=True)
class EdgeBlock:
    """The edges of some users."""

    likes: Csr
    dislikes: Csr

    @property
    def n_users(self) -> int:
        """How many users, with or without edges."""
        return len(self.likes[0]) - 1


@dataclass(frozen=True)
class ShardRecord:
    """What ``shards.json`` holds."""

    format: int
    n_users: int
    n_items: int
    users_per_shard: int
    n_shards: int
    n_likes: int
    n_dislikes: int


class Shards:
    """The shards of a folder that :func:`write_shards` made; they are mapped into memory one at a time.

    Raises:
        UsageError: the folder holds no shards, or those of another version, or files are missing.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = folder = Path(folder)
        try:
            self.record = ShardRecord(**json.loads((folder / RECORD).read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise UsageError(f"there is no {RECORD} in {folder}; write_shards makes such a folder.") from error
        except (ValueError, TypeError) as error:
            raise UsageError(f"{folder / RECORD} is not a record of shards: {error}.") from error
        if self.record.format != FORMAT:
            raise UsageError(f"{folder} has format {self.record.format}, this version reads {FORMAT}; write it again.")
        for shard in range(self.record.n_shards):
            for path in _files(folder, shard):
                if not path.is_file():
                    raise UsageError(f"{path} is missing; write the shards again.")
        self.n_items = self.record.n_items

    def blocks(self, part: int = 0, n_parts: int = 1) -> Iterator[EdgeBlock]:
        """Yield every ``n_parts``-th shard from ``part`` on, its arrays mapped read-only."""
        for shard in range(part, self.record.n_shards, n_parts):
            arrays = [np.load(path, mmap_mode="r") for path in _files(self.folder, shard)]
            yield EdgeBlock((arrays[0], arrays[1]), (arrays[2], arrays[3]))


def _files(folder: Path, shard: int) -> list[Path]:
    return [folder / f"{shard:05d}-{sign}-{what}.npy" for sign in SIGNS for what in ("indptr", "items")]


def write_shards(
    folder: Path | str, pieces: Iterable[EdgeArrays], n_users: int, n_items: int, users_per_shard: int = 1 << 19
) -> Shards:
    """Write a graph from pieces of edges in any order; a pair counts once in each sign, edges of sign 0 are left out.

    Each piece is distributed to one file a shard, then each shard is sorted on its own: memory for one piece and
    for one shard.

    Args:
        folder: must not exist yet; it appears when it is whole.
        pieces: users, items, signs of some edges each.
        n_users: users are 0 .. n_users - 1.
        n_items: items are 0 .. n_items - 1.
        users_per_shard: of which at most :data:`LARGEST` edges a shard may come.

    Returns:
        The shards.

    Raises:
        UsageError: the folder exists, an id is out of range, or there are too many items or edges in a shard.
    """
    folder = Path(folder)
    if folder.exists():
        raise UsageError(f"{folder} exists; remove it, or write the shards to another folder.")
    if users_per_shard < 1:
        raise UsageError(f"users_per_shard is {users_per_shard}; it must be 1 or more.")
    if n_items > LARGEST:
        raise UsageError(f"there are {n_items:,} items; shards hold int32 ids, so {LARGEST:,} at most.")
    n_shards = max(1, -(-n_users // users_per_shard))
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        for users, items, signs in pieces:
            _check_ids(users, items, n_users, n_items)
            _distribute(unfinished, (users, items, signs), users_per_shard)
        counts = np.zeros(2, dtype=np.int64)
        for shard in range(n_shards):
            n_rows = min(users_per_shard, n_users - shard * users_per_shard)
            counts += _sort_shard(unfinished, shard, max(n_rows, 0), n_items)
        record = ShardRecord(FORMAT, n_users, n_items, users_per_shard, n_shards, int(counts[0]), int(counts[1]))
        (unfinished / RECORD).write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return Shards(folder)


def _check_ids(users: npt.NDArray[np.integer], items: npt.NDArray[np.integer], n_users: int, n_items: int) -> None:
    for name, ids, end in (("user", users, n_users), ("item", items, n_items)):
        if len(ids) and not (ids.min() >= 0 and ids.max() < end):
            raise UsageError(f"{name} ids go from {ids.min()} to {ids.max()}; they must go from 0 to {end - 1}.")


def _distribute(folder: Path, edges: EdgeArrays, users_per_shard: int) -> None:
    users, items, signs = edges
    shard = (users // users_per_shard).astype(np.int32)
    order = np.argsort(shard, kind="stable")
    places = np.searchsorted(shard[order], np.arange(int(shard.max()) + 2 if len(shard) else 1))
    for number, (start, end) in enumerate(pairwise(places)):
        if start == end:
            continue
        chosen = order[start:end]
        local = (users[chosen] - number * users_per_shard).astype(np.int32)
        for name, values in (("users", local), ("items", items[chosen].astype(np.int32)), ("signs", signs[chosen])):
            with (folder / f"{number:05d}.{name}").open("ab") as file:
                (np.sign(values).astype(np.int8) if name == "signs" else values).tofile(file)


def _sort_shard(folder: Path, shard: int, n_rows: int, n_items: int) -> npt.NDArray[np.int64]:
    """Turn a shard's distributed edges into its CSR files; return its numbers of likes and dislikes."""
    raw: dict[str, npt.NDArray[Any]] = {}
    for name, kind in (("users", np.int32), ("items", np.int32), ("signs", np.int8)):
        path = folder / f"{shard:05d}.{name}"
        raw[name] = np.fromfile(path, dtype=kind) if path.is_file() else np.zeros(0, dtype=kind)
        path.unlink(missing_ok=True)
    users, items, signs = raw.values()
    if len(users) > LARGEST:
        raise UsageError(f"shard {shard} has {len(users):,} edges, {LARGEST:,} at most: set a smaller users_per_shard.")
    chosen = (signs > 0, signs < 0)
    likes, dislikes = ((users[side], items[side]) for side in chosen)
    graph = SignedGraph.from_edges(likes, dislikes, n_rows, n_items)
    arrays = [graph.likes.indptr, graph.likes.indices, graph.dislikes.indptr, graph.dislikes.indices]
    for path, array in zip(_files(folder, shard), arrays, strict=True):
        np.save(path, array.astype(np.int32, copy=False))
    return np.array([graph.likes.nnz, graph.dislikes.nnz], dtype=np.int64)


@dataclass(frozen=True)
class DegreeCounts:
    """What a fit needs to know of all degrees."""

    likes: npt.NDArray[np.int64]  # likes of each item, `[n_items]`
    dislikes: npt.NDArray[np.int64]  # dislikes of each item, `[n_items]`
    n_users: int  # all users, with or without edges
    n_active: int  # users whose weighted degree is above 0
    median: float  # the median of their weighted degrees; 1 if there are none

    @classmethod
    def from_blocks(cls, blocks: Iterable[EdgeBlock], n_items: int, dislike_weight: float) -> DegreeCounts:
        """Count the edges of this process' blocks, and sum over processes where torch.distributed is initialised."""
        totals = torch.zeros(2, n_items, dtype=torch.int64)
        pairs: Counter[tuple[int, int]] = Counter()  # (likes, dislikes) of a user -> users who have as many
        for block in blocks:
            sides = (block.likes, block.dislikes)
            for total, (_, items) in zip(totals.numpy(), sides, strict=True):
                for first in range(0, len(items), PIECE):
                    total += np.bincount(items[first : first + PIECE], minlength=n_items)
            likes, dislikes = (np.diff(indptr).astype(np.int64) for indptr, _ in sides)
            keys, counts = np.unique(likes << 32 | dislikes, return_counts=True)
            halves = zip((keys >> 32).tolist(), (keys & 0xFFFFFFFF).tolist(), strict=True)
            pairs.update(dict(zip(halves, counts.tolist(), strict=True)))
        all_reduced(totals)
        if dist.is_available() and dist.is_initialized():
            gathered: list[Counter[tuple[int, int]]] = [Counter() for _ in range(dist.get_world_size())]
            dist.all_gather_object(gathered, pairs)
            pairs = sum(gathered, Counter())
        degrees = np.array([likes + abs(dislike_weight) * dislikes for likes, dislikes in pairs], dtype=np.float64)
        how_many = np.array(list(pairs.values()), dtype=np.int64)
        active = degrees > 0
        item_likes, item_dislikes = totals.numpy()
        return cls(
            likes=item_likes,
            dislikes=item_dislikes,
            n_users=int(how_many.sum()),
            n_active=int(how_many[active].sum()),
            median=_median(degrees[active], how_many[active]),
        )


def all_reduced(values: torch.Tensor) -> torch.Tensor:
    """Replace values by their sum over processes, where torch.distributed is initialised; return them."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values)
    return values


def _median(values: npt.NDArray[np.float64], how_many: npt.NDArray[np.int64]) -> float:
    """Return the median of values that are each there ``how_many`` times; 1 of none."""
    if not len(values):
        return 1.0
    order = np.argsort(values)
    ends = how_many[order].cumsum()
    middle = [(ends[-1] - 1) // 2, ends[-1] // 2]
    return float(values[order][np.searchsorted(ends, middle, side="right")].mean())
