"""The benchmark of the service gets lists from it, not refusals, whose latencies would look better."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "bench_serve.py"


def test_every_answer_of_the_benchmark_is_a_list() -> None:
    words = ["--edges", "5000", "--items", "100", "--rank", "8", "--seconds", "0.5"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words], stdout=subprocess.PIPE, text=True, timeout=300, check=True
    )
    failed = [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("failed answers")]
    assert failed == ["0", "0"], done.stdout
