"""Ten million interactions: reading, ids, split, samplers and loaders through RecBole; and the graph alone, lean.

    python benchmarks/bench_data.py                          # 10M rows, both paths
    python benchmarks/bench_data.py --rows 50000000 --only lean

Limits at 10M rows, and in proportion above: RecBole's ``create_dataset`` and ``data_preparation`` in 60 s and 6 GB;
the peak of reading the edges and building the graph at most 3 times 17 bytes an edge (int32 user, int32 item, int8
sign, int64 time). Memory is that of a fresh process. For the lean path what the interpreter and the libraries take
before any data is there is not counted; the line after it counts it too. RecBole's path keeps int64 and float32
columns, of the whole and of the parts, so it can't come near the second limit: its figure is for information.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from measuring import MIB, Figure, in_fresh_process, memory, parser, report
from signed_files import write_inter

ROWS = 10_000_000
BYTES_PER_EDGE = 17  # int32 user, int32 item, int8 sign, int64 time
SECONDS, GIB, TIMES = 60.0, 6.0, 3.0


def measure_recbole(folder: Path, name: str) -> dict[str, float]:
    """Load, split and prepare by RecBole's own functions, then draw negatives for one epoch."""
    import recbole_signed  # noqa: F401  (first: it repairs RecBole for today's NumPy)

    # isort: split
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import init_seed

    sys.argv = sys.argv[:1]  # RecBole reads the command line
    settings = {"data_path": str(folder), "state": "ERROR", "show_progress": False}
    config = Config(model="BPR", dataset=name, config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    base, start = memory("VmRSS"), time.perf_counter()
    dataset = create_dataset(config)
    loaded = time.perf_counter()
    train, _, _ = data_preparation(config, dataset)
    prepared = time.perf_counter()
    peak = memory("VmHWM")
    likes = train._dataset.inter_feat
    users, items = (likes[field].numpy() for field in (dataset.uid_field, dataset.iid_field))
    for first in range(0, len(users), 2048):
        train._sampler.sample_by_user_ids(users[first : first + 2048], items[first : first + 2048], 1)
    sampled = time.perf_counter()
    train._dataset.signed_graph()
    return {
        "base": base,
        "peak": peak,
        "load_s": loaded - start,
        "prepare_s": prepared - loaded,
        "epoch_s": sampled - prepared,
        "epoch_rows": len(users),
        "graph_s": time.perf_counter() - sampled,
    }


def measure_lean(file: Path) -> dict[str, float]:
    """Read the edges and build the graph."""
    import numpy  # noqa: F401  (what the libraries take is counted as the base)
    import pandas  # noqa: F401
    import scipy.sparse  # noqa: F401

    from recbole_signed.atomic import read_rows
    from recbole_signed.graph import SignedGraph

    base, start = memory("VmRSS"), time.perf_counter()
    rows = read_rows(file.parent)
    read = time.perf_counter()
    likes, dislikes = ((rows.users[chosen], rows.items[chosen]) for chosen in (rows.signs == 1, rows.signs == -1))
    graph = SignedGraph.from_edges(likes, dislikes, rows.n_users, rows.n_items)
    return {
        "base": base,
        "peak": memory("VmHWM"),
        "edges": len(rows) * BYTES_PER_EDGE,
        "in_graph": graph.n_edges,
        "read_s": read - start,
        "graph_s": time.perf_counter() - read,
    }


def recbole_figures(readings: dict[str, float], rows: int) -> list[Figure]:
    scale = max(1.0, rows / ROWS)
    label = f"{rows:,} rows through RecBole"
    growth = (readings["peak"] - readings["base"]) / (17 * rows)
    return [
        Figure(f"{label}, read and remap", readings["load_s"], "s"),
        Figure(f"{label}, split, samplers, loaders", readings["prepare_s"], "s"),
        Figure(f"{label}, in all", readings["load_s"] + readings["prepare_s"], "s", SECONDS * scale),
        Figure(f"{label}, peak memory", readings["peak"] / 2**30, "GiB", GIB * scale * 1e9 / 2**30),
        Figure(f"{label}, peak over that of the libraries / edges", growth, "times"),
        Figure(f"{label}, negatives of an epoch ({readings['epoch_rows']:,.0f} likes)", readings["epoch_s"], "s"),
        Figure(f"{label}, graph", readings["graph_s"], "s"),
    ]


def lean_figures(readings: dict[str, float], rows: int) -> list[Figure]:
    label = f"{rows:,} rows, edges and graph"
    return [
        Figure(f"{label}, read", readings["read_s"], "s"),
        Figure(f"{label}, graph", readings["graph_s"], "s"),
        Figure(
            f"{label}, peak over that of the libraries / edges",
            (readings["peak"] - readings["base"]) / readings["edges"],
            "times",
            TIMES,
        ),
        Figure(f"{label}, peak with the libraries / edges", readings["peak"] / readings["edges"], "times"),
        Figure(f"{label}, peak memory", readings["peak"] / MIB, "MiB"),
    ]


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--rows", type=lambda text: int(float(text)), nargs="+", default=[ROWS])
    options.add_argument("--only", choices=("recbole", "lean"))
    options.add_argument("--measure", nargs=2, help="for the script itself: a path and a file, measured right here")
    chosen = options.parse_args()
    if chosen.measure:
        path, file = chosen.measure[0], Path(chosen.measure[1])
        readings = measure_lean(file) if path == "lean" else measure_recbole(file.parents[1], file.stem)
        print(json.dumps(readings))
        return 0
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as scratch:
        for rows in chosen.rows:
            name = f"signed-{rows}"
            file = (chosen.folder or Path(scratch)).resolve() / name / f"{name}.inter"
            if not file.is_file():
                print(f"writing {file} ...", file=sys.stderr)
                write_inter(file, rows)
            for path, figures_of in (("recbole", recbole_figures), ("lean", lean_figures)):
                if chosen.only in (None, path):
                    print(f"measuring {path} at {rows:,} rows ...", file=sys.stderr)
                    readings = in_fresh_process(__file__, "--measure", path, str(file), folder=Path(scratch))
                    figures += figures_of(readings, rows)
    return report(figures, chosen.json)


if __name__ == "__main__":
    sys.exit(main())
