"""Random numbers and threads: work in blocks of fixed size, each with a stream of its own.

So the result depends on the seed alone, neither on the number of threads nor on which of them was first. Uniform draws
are used, the part of a NumPy generator that has not changed between versions, and a permutation in
:func:`~recbole_signed.lab.synth.nodes.degrees`. NumPy promises neither; a test compares the sha256 of small graphs,
which NumPy 1.26 to 2.5 give alike.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

BLOCK = 1 << 20
"""Edges of a block; a change of it changes every graph."""
THREADS = min(2, os.cpu_count() or 1)


def stream(seed: int, stage: str, block: int = 0) -> np.random.Generator:
    """The generator of one block of one stage."""
    name = int.from_bytes(stage.encode(), "little")
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, name, block])))


def each_block(work: Callable[[int, slice], None], total: int, threads: int) -> None:
    """Call ``work(number, slice)`` for every block of ``range(total)``, several at a time.

    NumPy releases the interpreter's lock in everything that takes long here.
    """
    blocks = [slice(start, min(start + BLOCK, total)) for start in range(0, total, BLOCK)]
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, range(len(blocks)), blocks):
            pass  # raises what a block raised
