"""Write synthetic raw files in Yambda's format, to rehearse yaml/bench/yambda.yaml without the data.

    python benchmarks/yambda_rehearsal.py --edges 46467212 --output runs/yambda/50m
    recbole-signed convert yambda --input runs/yambda/50m --output atomic_files split=official listens=none
    recbole-signed compare yaml/bench/yambda.yaml --output runs/yambda

46,467,212 edges have the shape of the smallest published size. The edges of ``synth --profile yambda`` are the listens;
of them 1.9 % are likes and 0.23 % dislikes, as published, and a tenth of the likes is taken back at some later moment.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl

from recbole_signed.convert.sources.yambda import END
from recbole_signed.lab.synth import generate

EXPLICIT = (881_456 + 107_776) / 46_467_212
TAKEN_BACK = 0.1


def main() -> None:
    """Generate a graph and write the files of the layout ``flat``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges", type=int, default=1_000_000)
    parser.add_argument("--output", type=Path, default=Path("runs/yambda/50m"))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    graph = generate("yambda", given.edges, given.seed)
    rng = np.random.default_rng(given.seed)
    explicit = rng.random(given.edges) < EXPLICIT
    like, dislike = explicit & (graph.signs > 0), explicit & (graph.signs < 0)

    def write(name: str, chosen: np.ndarray, times: np.ndarray, **more: pl.Series) -> None:
        columns = {"uid": graph.users[chosen], "timestamp": times // 5 * 5, "item_id": graph.items[chosen]}
        frame = pl.DataFrame(columns).cast(pl.UInt32).with_columns(is_organic=pl.lit(1, pl.UInt8), **more)
        frame.sort("uid", "timestamp").write_parquet(given.output / f"{name}.parquet")

    everything = np.ones(given.edges, dtype=bool)
    ratio = pl.Series(rng.integers(0, 101, given.edges).astype(np.uint16))
    length = pl.Series(np.full(given.edges, 180, dtype=np.uint32))
    write("listens", everything, graph.times, played_ratio_pct=ratio, track_length_seconds=length)
    write("likes", like, graph.times[like])
    write("dislikes", dislike, graph.times[dislike])
    for name, side in {"unlikes": like, "undislikes": dislike}.items():
        back = side & (rng.random(given.edges) < TAKEN_BACK)
        moment = graph.times[back] + (rng.random(back.sum()) * (END - graph.times[back])).astype(np.int64)
        write(name, back, moment)
    print(f"{given.edges:,} listens, {like.sum():,} likes, {dislike.sum():,} dislikes of {graph.n_users:,} users")


if __name__ == "__main__":
    main()
