"""Fit a filter to a folder of shards, by one process or by several, and keep it as one file.

python -m recbole_signed.lab.sharded SHARDS --output filter.safetensors --rank 64
torchrun --nproc-per-node 2 -m recbole_signed.lab.sharded SHARDS --output filter.safetensors --rank 64
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from recbole_signed.errors import UsageError
from recbole_signed.files import replacing
from recbole_signed.graph import Shards, SignedGraph, spectral
from recbole_signed.graph.shards import DegreeCounts, EdgeBlock, all_reduced
from recbole_signed.graph.sparse_kernels import Panel, SparseTerm, add_transposed_product, empty_panel, multiply
from recbole_signed.plugin.ranges import without_removed
from recbole_signed.ssf.filter import SpectralFilter
from recbole_signed.ssf.item_counters import ItemCounters
from recbole_signed.ssf.settings import FilterSettings

KIND = "recbole-signed filter 1"
TENSORS = ("vectors", "values", "likes", "dislikes")


def save_filter(fitted: SpectralFilter, path: Path) -> None:
    """Write a fitted filter as safetensors, as a whole or not at all."""
    numbers = {"n_users": fitted.n_users, "median_degree": fitted.median_degree, **asdict(fitted.settings)}
    counters = fitted.counters
    tensors = (fitted.vectors, fitted.values, counters.likes, counters.dislikes)
    named = {name: tensor.contiguous() for name, tensor in zip(TENSORS, tensors, strict=True)}
    with replacing(path) as unfinished:
        save_file(named, unfinished, metadata={"kind": KIND, "numbers": json.dumps(numbers)})


def load_filter(path: Path) -> SpectralFilter:
    """Read a filter that :func:`save_filter` wrote."""
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            if about.get("kind") != KIND:
                raise UsageError(f"{path} is {about.get('kind', 'no filter')}; expected '{KIND}'.")
            vectors, values, likes, dislikes = (file.get_tensor(name) for name in TENSORS)
    except (OSError, SafetensorError) as error:
        raise UsageError(f"can't read a filter from {path}: {error}.") from error
    numbers = json.loads(about["numbers"])
    n_users, median_degree = numbers.pop("n_users"), numbers.pop("median_degree")
    counters = ItemCounters.from_counts(likes, dislikes)
    return SpectralFilter(vectors, values, counters, n_users, median_degree, FilterSettings(**without_removed(numbers)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 2 for wrong input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path, help="folder that write_shards made")
    parser.add_argument("--output", "-o", type=Path, required=True, help="file of the filter")
    parser.add_argument("--iterations", type=int, default=4)
    parser.add_argument("--oversampling", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    for field in fields(FilterSettings):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    chosen = parser.parse_args(arguments)
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if several:
        dist.init_process_group("gloo")
    try:
        settings = FilterSettings(**{field.name: getattr(chosen, field.name) for field in fields(FilterSettings)})
        first = not several or dist.get_rank() == 0
        done = 0

        def progress() -> None:
            nonlocal done
            done += 1
            if first:
                sys.stderr.write(f"\rpass {done} of {chosen.iterations + 2}")

        fitted = fit_shards(
            Shards(chosen.shards),
            settings,
            iterations=chosen.iterations,
            oversampling=chosen.oversampling,
            seed=chosen.seed,
            progress=progress,
        )
        if first:
            sys.stderr.write("\n")
            save_filter(fitted, chosen.output)
    except UsageError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    finally:
        if several:
            dist.destroy_process_group()
    return 0


ROWS = 65_536  # users whose products are held at a time


def fit_graph(
    graph: SignedGraph,
    settings: FilterSettings,
    *,
    iterations: int = 4,
    oversampling: int = 32,
    seed: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> SpectralFilter:
    """Fit the filter that :meth:`SpectralFilter.fit` fits, in less memory; its last vectors are less exact.

    A power iteration from a random start in the order of the items, which needs fewer passes over the edges.

    Args:
        graph: the training graph.
        settings: of the filter.
        iterations: passes over the edges before the last one, which is half of one.
        oversampling: additional vectors that are iterated.
        seed: of the random start.
        progress: is called ``iterations + 2`` times: after the count of the edges and after each pass.

    Raises:
        UsageError: the graph has weighted neutral edges.
    """
    if graph.neutrals is not None:
        raise UsageError("neutral edges have no place in a fit without the matrix; set neutral_weight: 0.")
    whole = EdgeBlock((graph.likes.indptr, graph.likes.indices), (graph.dislikes.indptr, graph.dislikes.indices))
    counts = DegreeCounts.from_blocks([whole], graph.n_items, settings.dislike_weight)
    progress()
    weights = (1.0, settings.dislike_weight)
    parts, transposed = [], []
    for weight, matrix in zip(weights, (graph.likes, graph.dislikes), strict=True):
        if weight:
            parts.append(SparseTerm.from_matrix(matrix, weight, binary=True))
            transposed.append(SparseTerm.from_matrix(matrix.T.tocsr(), weight, binary=True))
    degrees = spectral.user_degrees(graph, settings.dislike_weight)
    row_scale = spectral.inverse_power(degrees, settings.degree_smoothing, settings.degree_exponent).astype(np.float32)
    operator = spectral.ResidentOperator(parts, transposed, row_scale, _item_scale(counts, settings))
    return _fit(operator, counts, settings, iterations, oversampling, seed, progress)


def fit_shards(
    shards: Shards,
    settings: FilterSettings,
    *,
    iterations: int = 4,
    oversampling: int = 32,
    seed: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> SpectralFilter:
    """Fit the filter that :func:`fit_graph` fits, up to rounding, from shards that are read in each pass.

    Where torch.distributed is initialised (``torchrun``; any backend with CPU tensors, such as gloo), every process
    must call this with the same arguments: each goes over its part of the shards, all get the same filter.

    Args:
        shards: the training graph; the other arguments are those of :func:`fit_graph`.
    """
    counts = DegreeCounts.from_blocks(_own_blocks(shards), shards.n_items, settings.dislike_weight)
    progress()
    with ShardOperator(shards, settings, _item_scale(counts, settings)) as operator:
        return _fit(operator, counts, settings, iterations, oversampling, seed, progress)


def _fit(
    operator: spectral.GramOperator,
    counts: DegreeCounts,
    settings: FilterSettings,
    iterations: int,
    oversampling: int,
    seed: int,
    progress: Callable[[], None],
) -> SpectralFilter:
    n_items = len(counts.likes)
    width = min(settings.rank + oversampling, n_items, counts.n_users)
    vectors, values = torch.zeros(n_items, 0), torch.zeros(0)
    if width:
        panels, energy, rotation = spectral.iterate(
            operator, spectral.random_panels(n_items, width, seed), iterations, progress
        )
        kept = min(settings.rank, spectral.n_kept(energy))
        vectors, values = spectral.rotated(panels, rotation[:, :kept]), energy[:kept].sqrt().float()
    counters = ItemCounters.from_counts(
        torch.from_numpy(counts.likes).float(), torch.from_numpy(counts.dislikes).float()
    )
    vectors[counters.unknown] = 0.0  # rounding must not give a direction to items without edges
    return SpectralFilter(vectors, values, counters, float(counts.n_active), counts.median, settings)


def _item_scale(counts: DegreeCounts, settings: FilterSettings) -> npt.NDArray[np.float32]:
    degrees = counts.likes + abs(settings.dislike_weight) * counts.dislikes.astype(np.float64)
    return spectral.inverse_power(degrees, settings.degree_smoothing, settings.degree_exponent).astype(np.float32)


class ShardOperator:
    """The exposure matrix of shards for :func:`recbole_signed.graph.spectral.iterate`; a context manager.

    :math:`R = D_u W D_i` is never made: :math:`R^T R V = D_i W^T D_u^2 W (D_i V)` needs the edges without values.
    """

    def __init__(self, shards: Shards, settings: FilterSettings, item_scale: npt.NDArray[np.float32]) -> None:
        self.shards, self.settings, self.item_scale = shards, settings, item_scale[:, None]
        self.values = {weight: np.zeros(0, dtype=np.float32) for weight in (1.0, settings.dislike_weight)}

    def __enter__(self) -> ShardOperator:
        self.pool = ThreadPoolExecutor(torch.get_num_threads())
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown()

    def squared(self, panels: list[Panel]) -> list[Panel]:
        r"""Return :math:`R^T R V`, summed over processes; scales ``panels`` on the way."""
        images = [np.zeros_like(panel) for panel in panels]
        for panel in panels:
            panel *= self.item_scale
        for parts, user_scale in self._rows():
            products = [empty_panel(len(user_scale), panel.shape[1]) for panel in panels]
            for product, panel in zip(products, panels, strict=True):
                multiply(product, parts, panel, user_scale**2)
            list(self.pool.map(partial(self._scatter, images, parts, products), range(len(panels))))
        for image in images:
            all_reduced(torch.from_numpy(image))
            image *= self.item_scale
        return images

    def _scatter(self, images: list[Panel], parts: list[SparseTerm], products: list[Panel], number: int) -> None:
        for part in parts:
            add_transposed_product(images[number], part, products[number], self.values[part.weight])

    def energy(self, panels: list[Panel]) -> torch.Tensor:
        r"""Return :math:`(R V)^T R V`, summed over processes."""
        tables = [panel * self.item_scale for panel in panels]
        width = sum(panel.shape[1] for panel in panels)
        gram = torch.zeros(width, width, dtype=torch.float64)
        for parts, user_scale in self._rows():
            gram += spectral.energy_of(parts, tables, user_scale)
        return all_reduced(gram)

    def _rows(self) -> Iterator[tuple[list[SparseTerm], npt.NDArray[np.float32]]]:
        """Yield the edges of a few users at a time by their weight, and the users' scales ``[n]``."""
        s = self.settings
        for block in _own_blocks(self.shards):
            sides = [(1.0, block.likes), *([(s.dislike_weight, block.dislikes)] if s.dislike_weight else [])]
            whole = [SparseTerm(indptr, indices, weight) for weight, (indptr, indices) in sides]
            for first in range(0, block.n_users, ROWS):
                some = [part.rows(first, ROWS) for part in whole]
                # copies: the files are mapped read-only, which torch does not know
                parts = [SparseTerm(term.indptr.copy(), term.indices.copy(), term.weight) for term in some]
                degrees = np.zeros(parts[0].n_rows)
                for part in parts:
                    self._provide(part.weight, len(part.indices))
                    degrees += abs(part.weight) * np.diff(part.indptr)
                yield parts, spectral.inverse_power(degrees, s.degree_smoothing, s.degree_exponent).astype(np.float32)

    def _provide(self, weight: float, n: int) -> None:
        if len(self.values[weight]) < n:
            self.values[weight] = np.full(n + n // 4, weight, dtype=np.float32)


def _own_blocks(shards: Shards) -> Iterator[EdgeBlock]:
    if dist.is_available() and dist.is_initialized():
        return shards.blocks(dist.get_rank(), dist.get_world_size())
    return shards.blocks()


if __name__ == "__main__":
    sys.exit(main())
