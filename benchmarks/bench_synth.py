"""Synthetic graphs of ten and a hundred million edges: time and peak memory of the generator against the limits.

    python benchmarks/bench_synth.py                                   # 10M and 100M edges, profile kuairand
    python benchmarks/bench_synth.py --edges 10M --write --stats       # also on disk, and its analysis

Limits: 10M edges in 15 s, 100M in 3 minutes and 6 GB, from a profile to arrays, on two cores; the analysis of 10M
rows (``recbole-signed stats``, with its figures) in 60 s. Writing is for information. Every graph has a fresh process.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from measuring import Figure, in_fresh_process, memory, parser, report

GB = 1e9
SECONDS_OF = {10_000_000: 15.0, 100_000_000: 180.0}
LIMIT_GB = 6.0
STATS_SECONDS, STATS_ROWS = 60.0, 10_000_000


def measure_synth(profile: str, edges: int, folder: Path | None) -> dict[str, float]:
    """Generate, and write in both formats where a folder is given."""
    from recbole_signed.lab.synth import generate, write

    start = time.perf_counter()
    graph = generate(profile, edges, seed=0)
    readings = {"generate_s": time.perf_counter() - start, "peak": memory("VmHWM")}
    readings |= {"users": graph.n_users, "items": graph.n_items}
    for how in ("inter", "npz") if folder else ():
        assert folder is not None
        start = time.perf_counter()
        write(graph, folder / f"{how}-{edges}", profile, 0, how, overwrite=True)
        readings[f"{how}_s"] = time.perf_counter() - start
    return readings


def measure_stats(folder: Path) -> dict[str, float]:
    """Read and analyse a data set and draw its figures."""
    from recbole_signed.atomic import read_rows
    from recbole_signed.lab.stats import analyse
    from recbole_signed.lab.stats.figures import draw

    start = time.perf_counter()
    rows = read_rows(folder)
    analysis = analyse(rows)
    draw(folder.name, rows, analysis, folder / "stats.png")
    return {"stats_s": time.perf_counter() - start, "peak": memory("VmHWM"), "rows": len(rows)}


def synth_figures(readings: dict[str, float], profile: str, edges: int) -> list[Figure]:
    label = f"{profile}, {edges:,} edges"
    seconds = SECONDS_OF.get(edges)
    figures = [
        Figure(
            f"{label} ({readings['users']:,.0f} users, {readings['items']:,.0f} items)",
            readings["generate_s"],
            "s",
            seconds,
        ),
        Figure(f"{label}, peak memory", readings["peak"] / GB, "GB", LIMIT_GB if edges <= 100_000_000 else None),
    ]
    return figures + [
        Figure(f"{label}, write {how}", readings[f"{how}_s"], "s") for how in ("inter", "npz") if f"{how}_s" in readings
    ]


def stats_figures(readings: dict[str, float]) -> list[Figure]:
    limit = STATS_SECONDS if readings["rows"] == STATS_ROWS else None
    return [
        Figure(f"analysis of {readings['rows']:,.0f} rows", readings["stats_s"], "s", limit),
        Figure(f"analysis of {readings['rows']:,.0f} rows, peak memory", readings["peak"] / GB, "GB"),
    ]


def main() -> int:
    from recbole_signed.cli.data import parse_count

    options = parser(__doc__)
    options.add_argument("--edges", type=parse_count, nargs="+", default=list(SECONDS_OF))
    options.add_argument("--profile", default="kuairand")
    options.add_argument("--write", action="store_true", help="write the graphs as atomic files and as arrays too")
    options.add_argument("--stats", action="store_true", help="analyse the written atomic files (with --write)")
    options.add_argument("--measure", nargs="+", help="for the script itself: what to measure right here")
    chosen = options.parse_args()
    if chosen.measure:
        what, *rest = chosen.measure
        if what == "stats":
            print(json.dumps(measure_stats(Path(rest[0]))))
        else:
            print(json.dumps(measure_synth(rest[0], int(rest[1]), Path(rest[2]) if len(rest) > 2 else None)))
        return 0
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = (chosen.folder or Path(scratch)).resolve()
        for edges in chosen.edges:
            print(f"measuring {edges:,} edges ...", file=sys.stderr)
            where = [str(folder)] if chosen.write else []
            words = ("--measure", "synth", chosen.profile, str(edges), *where)
            figures += synth_figures(in_fresh_process(__file__, *words, folder=Path(scratch)), chosen.profile, edges)
            if chosen.write and chosen.stats:
                print(f"analysing {edges:,} edges ...", file=sys.stderr)
                words = ("--measure", "stats", str(folder / f"inter-{edges}"))
                figures += stats_figures(in_fresh_process(__file__, *words, folder=Path(scratch)))
    return report(figures, chosen.json)


if __name__ == "__main__":
    sys.exit(main())
