"""Fit a filter to a folder of shards, by one process or by several, and keep it as one file.

python -m recbole_signed.lab.sharded.sharded_fit SHARDS --output filter.safetensors --rank 64
torchrun --nproc-per-node 2 -m recbole_signed.lab.sharded.sharded_fit SHARDS --output filter.safetensors --rank 64
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from recbole_signed.errors import UsageError
from recbole_signed.files import replacing
from recbole_signed.graph import Shards
from recbole_signed.lab.sharded.sharded_filter import fit_shards
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
    named = {name: each.contiguous() for name, each in zip(TENSORS, tensors, strict=True)}
    with replacing(path) as unfinished:
        save_file(named, unfinished, metadata={"kind": KIND, "numbers": json.dumps(numbers)})


def load_filter(path: Path) -> SpectralFilter:
    """Read a filter that :func:`save_filter` wrote.

    Raises:
        UsageError: there is no such file, or it holds something else.
    """
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
    counters = ItemCounters.of(likes, dislikes)
    return SpectralFilter(vectors, values, counters, n_users, median_degree, FilterSettings(**without_removed(numbers)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 2 for wrong input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path, help="folder that write_shards made")
    parser.add_argument("--output", "-o", type=Path, required=True, help="file of the filter")
    parser.add_argument("--iterations", type=int, default=4)
    parser.add_argument("--oversampling", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    for each in fields(FilterSettings):
        parser.add_argument(f"--{each.name.replace('_', '-')}", type=type(each.default), default=each.default)
    chosen = parser.parse_args(arguments)
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if several:
        dist.init_process_group("gloo")
    try:
        settings = FilterSettings(**{each.name: getattr(chosen, each.name) for each in fields(FilterSettings)})
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


if __name__ == "__main__":
    sys.exit(main())
