"""Seconds of a training and an evaluation on the CPU and on the GPU, model by model, one after the other.

    python benchmarks/bench_gpu.py [-d ml-100k-signed] [-m LightGCN,SSF,...] [--epochs 5]

Each run has a process of its own. The first line names the card; without one the command ends with status 2.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from recbole_signed.plugin import registry

RUN = """
import json, sys, recbole_signed
from recbole_signed.runs import run
row = run({model!r}, {dataset!r}, overrides={settings!r}, save=False, serve=True)
print(json.dumps({{"fit": row.fit_seconds, "eval": row.eval_seconds, "ndcg": row.test.get("ndcg@20")}}))
"""


def measured(model: str, dataset: str, epochs: int, data_path: Path, *, gpu: bool) -> dict[str, float]:
    """Run a model in a fresh process; seconds of its training and evaluation, and NDCG@20."""
    settings = {"epochs": epochs, "use_gpu": gpu, "data_path": str(data_path), "topk": [20], "metrics": ["NDCG"]}
    settings["valid_metric"] = "NDCG@20"
    script = RUN.format(model=model, dataset=dataset, settings=settings)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script], cwd=folder, capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise SystemExit(f"{model}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Measure and print."""
    ours = sorted(name for name, entry in registry.models().items() if entry.module.startswith("recbole_signed."))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-d", "--dataset", default="ml-100k-signed")
    parser.add_argument("-m", "--models", default=",".join([*ours, "LightGCN", "BPR"]))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--data-path", type=Path, default=Path("atomic_files"))
    given = parser.parse_args()
    if not torch.cuda.is_available():
        sys.stderr.write("bench_gpu.py: torch sees no GPU here; run it on a machine that has one.\n")
        raise SystemExit(2)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {given.dataset}, {given.epochs} epochs")
    print(
        f"{'':14} {'fit CPU':>9} {'fit GPU':>9} {'ratio':>6} {'eval CPU':>9} {'eval GPU':>9} {'ratio':>6} {'NDCG':>13}"
    )
    for model in given.models.split(","):
        cpu, gpu = (
            measured(model, given.dataset, given.epochs, given.data_path.resolve(), gpu=on_gpu)
            for on_gpu in (False, True)
        )
        parts = [f"{cpu[key]:9.2f} {gpu[key]:9.2f} {cpu[key] / gpu[key]:6.1f}" for key in ("fit", "eval")]
        print(f"{model:14} {' '.join(parts)} {cpu['ndcg']:.4f} {gpu['ndcg']:.4f}", flush=True)


if __name__ == "__main__":
    main()
