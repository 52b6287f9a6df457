"""Full-sort evaluation of 17 thousand users over 4.4 thousand items: RecBole's default against this package's.

    python benchmarks/bench_eval.py

In one process, on one split and one model, the test part is evaluated by RecBole's own loader with its own
``eval_batch_size`` (4096 scores: one user a batch) and by the loader and batch size that signed data gets, with the
same items hidden. The second must be at least 5 times faster and give the same metrics; each is run ``--repeat`` times
by turns, and the fastest counts. Beside synthetic data, SIGformer's KuaiRand split is measured where it lies beside
the repository (or at ``--kuairand``).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import MIB, Figure, in_fresh_process, memory, parser, report
from signed_files import write_inter

ROWS, N_USERS, N_ITEMS = 263_100, 17_000, 4_400  # as in SIGformer's KuaiRand
TIMES_FASTER = 5.0
KUAIRAND = Path(__file__).resolve().parents[2] / "shared" / "data" / "sigformer-kuairand"
RECBOLE_BATCH = 4096


def measure(folder: Path, name: str, repeat: int) -> dict[str, Any]:
    """Train BPR for an epoch and evaluate it in both ways."""
    import recbole_signed  # noqa: F401  (first: it repairs RecBole for today's NumPy)

    # isort: split
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.data.dataloader import FullSortEvalDataLoader
    from recbole.sampler import Sampler
    from recbole.trainer import Trainer
    from recbole.utils import get_model, init_seed

    sys.argv = sys.argv[:1]  # RecBole reads the command line
    settings = {
        "data_path": str(folder),
        "state": "ERROR",
        "show_progress": False,
        "protocol": "recbole",
        "mask_dislikes": False,
        "mask_neutrals": False,
        "metrics": ["Recall", "NDCG", "MRR", "Hit", "Precision"],
        "topk": [10, 20],
        "valid_metric": "NDCG@20",
        "metric_decimal_place": 6,
        "epochs": 1,
    }
    config = Config(model="BPR", dataset=name, config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    train, valid, test = data_preparation(config, create_dataset(config))
    parts = [loader._dataset for loader in (train, valid, test)]
    model = get_model("BPR")(config, train._dataset)
    trainer = Trainer(config, model)
    trainer.fit(train, saved=False, show_progress=False)
    trainer.eval_collector.data_collect(train)

    start = time.perf_counter()
    ours = type(test)(config, parts[2], test._sampler)
    ours_made = time.perf_counter()
    sampler = Sampler(["train", "valid", "test"], parts).set_phase("test")
    stock_config = Config(model="BPR", dataset=name, config_dict={**settings, "eval_batch_size": RECBOLE_BATCH})
    theirs = FullSortEvalDataLoader(stock_config, parts[2], sampler)
    theirs_made = time.perf_counter()
    readings: dict[str, Any] = {
        "users": len(ours.users),
        "items": parts[2].item_num - 1,
        "batch": ours.step,
        "made_s": ours_made - start,
        "recbole_made_s": theirs_made - ours_made,
        "base": memory("VmHWM"),
    }
    for key, loader in (("", ours), ("recbole_", theirs)) * repeat:
        begin = time.perf_counter()
        metrics = trainer.evaluate(loader, load_best_model=False, show_progress=False)
        readings[key + "s"] = min(readings.get(key + "s", float("inf")), time.perf_counter() - begin)
        readings[key + "metrics"] = dict(metrics)
        if not key:
            readings["peak"] = memory("VmHWM")
    return readings


def figures_of(readings: dict[str, Any], name: str) -> list[Figure]:
    label = f"{name}, {readings['users']:,} users x {readings['items']:,} items"
    ours, theirs = readings["metrics"], readings["recbole_metrics"]
    different = sum(ours[metric] != theirs[metric] for metric in theirs)
    shown = ", ".join(f"{metric} {ours[metric]:.4f}" for metric in ("recall@20", "ndcg@20"))
    return [
        Figure(f"{label}, RecBole's default (1 user a batch)", readings["recbole_s"], "s"),
        Figure(f"{label}, signed ({readings['batch']} users a batch)", readings["s"], "s"),
        Figure(f"{label}, faster by", readings["recbole_s"] / readings["s"], "times", TIMES_FASTER, at_least=True),
        Figure(f"{label}, metrics that differ ({shown})", different, f"of {len(theirs)}", 0),
        Figure(f"{label}, making RecBole's sampler and loader", readings["recbole_made_s"], "s"),
        Figure(f"{label}, making the signed loader", readings["made_s"], "s"),
        Figure(f"{label}, peak memory gained by evaluating", (readings["peak"] - readings["base"]) / MIB, "MiB"),
    ]


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--rows", type=lambda text: int(float(text)), default=ROWS)
    options.add_argument("--repeat", type=int, default=2)
    options.add_argument("--kuairand", type=Path, default=KUAIRAND)
    options.add_argument("--measure", nargs=2, help="for the script itself: a folder and a data set")
    chosen = options.parse_args()
    if chosen.measure:
        print(json.dumps(measure(Path(chosen.measure[0]), chosen.measure[1], chosen.repeat)))
        return 0
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = (chosen.folder or Path(scratch)).resolve()
        names = [f"ranked-{chosen.rows}"]
        file = folder / names[0] / f"{names[0]}.inter"
        if not file.is_file():
            write_inter(file, chosen.rows, N_USERS, N_ITEMS)
        if chosen.kuairand.is_dir():
            names.append("sigformer-kuairand")
            if not (folder / names[1]).is_dir():
                command = ["-m", "recbole_signed", "convert", "signed-split", "--input", str(chosen.kuairand)]
                subprocess.run([sys.executable, *command, "--output", str(folder)], check=True, stdout=sys.stderr)
        else:
            print(f"{chosen.kuairand} is not there: only synthetic data is measured", file=sys.stderr)
        for name in names:
            print(f"measuring {name} ...", file=sys.stderr)
            arguments = ("--measure", str(folder), name, "--repeat", str(chosen.repeat))
            figures += figures_of(in_fresh_process(__file__, *arguments, folder=Path(scratch)), name)
    return report(figures, chosen.json)


if __name__ == "__main__":
    sys.exit(main())
