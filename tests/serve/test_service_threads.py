"""How many threads compute in a process that answers requests."""

import json
import os
import subprocess
import sys

SCRIPT = """
import json
from recbole_signed.live.serve.start import compute_on_one_thread
compute_on_one_thread()
import torch
from threadpoolctl import threadpool_info
print(json.dumps([torch.get_num_threads(), *(each["num_threads"] for each in threadpool_info())]))
"""


def test_a_service_computes_on_the_thread_that_asks() -> None:
    free = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=free, stdout=subprocess.PIPE, text=True, check=True)
    counts = json.loads(done.stdout)
    assert len(counts) > 2  # torch's own, and at least OpenMP's and one BLAS
    assert set(counts) == {1}
