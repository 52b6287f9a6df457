"""What a fit with its choice of parameters costs against SSF's: SSF-T by default, processor time in one process.

    python benchmarks/bench_choice.py -d ml-100k-signed,ml-latest-small,movietweetings,kuairand-stream

The runs are those of a table (``--table``, ``next-like`` or ``temporal``), on data below ``--data-path``, where
``ml-100k-signed`` makes itself. Of each data set SSF and the model are fitted by turns, ``--repeat`` times, and the
smallest processor time of each counts: that of other processes on the machine only makes it longer.
"""

from __future__ import annotations

import sys
from pathlib import Path

from measuring import Figure, parser, report

TABLES = Path(__file__).resolve().parents[1] / "yaml" / "bench"
LIMITS = {"SSF-T": 2.5}
"""Times SSF's."""
SEED = 2020


def main(argv: list[str] | None = None) -> int:
    options = parser(__doc__)
    options.add_argument("--table", default="next-like", help="which table of yaml/bench says how to split")
    options.add_argument("-d", "--dataset", default="ml-100k-signed", help="its data sets (A,B)")
    options.add_argument("--data-path", default="atomic_files", help="the folder of the data sets")
    options.add_argument("--label", default="SSF-T", help="the row of the table that is compared with SSF's")
    options.add_argument("--repeat", type=int, default=1)
    args = options.parse_args(argv)
    import recbole_signed  # noqa: F401  (first: it repairs RecBole for today's NumPy)

    # isort: split
    from recbole_signed.runs import TableSpec, run
    from recbole_signed.runs.runner import DataCache

    sys.argv = sys.argv[:1]  # RecBole reads the command line
    labels, names = ("SSF", args.label), args.dataset.split(",")
    table = TableSpec.read(TABLES / f"{args.table}.yaml").only(labels, names)
    figures = []
    for name in names:
        rows = {row.label: row for row in table.planned_rows(name)}
        seconds = dict.fromkeys(labels, float("inf"))
        cache = DataCache()
        for label in labels * args.repeat:
            settings = {**rows[label].settings, "data_path": args.data_path, "state": "ERROR", "show_progress": False}
            row = run(rows[label].model, name, overrides=settings, seed=SEED, save=False, test=False, cache=cache)
            assert row.fit_cpu_seconds is not None
            seconds[label] = min(seconds[label], row.fit_cpu_seconds)
        figures += [Figure(f"{name}: a fit of {label}", seconds[label], "s") for label in labels]
        ratio = seconds[args.label] / seconds["SSF"]
        figures.append(Figure(f"{name}: {args.label} / SSF", ratio, "times", LIMITS.get(args.label)))
    return report(figures, args.json)


if __name__ == "__main__":
    raise SystemExit(main())
