"""Memory is measured, and what is freed goes back to the system."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from recbole_signed.memory import memory_bytes, reset_peak_memory

SCRIPT = """
import sys
import numpy as np
from recbole_signed.memory import hold_memory_down, memory_bytes

if sys.argv[1] == "held":
    hold_memory_down()
np.ones(30 << 20, dtype=np.int8).sum()  # freed: from now on glibc takes blocks up to this from its arena
before, kept = memory_bytes()[0], []
for _ in range(20):
    copy = np.ones(4 << 20, dtype=np.int8)
    kept.append((np.ones(50_000), copy))  # small ones that stay lie between large ones that go
kept = [small for small, _ in kept]
del copy
print(memory_bytes()[0] - before - sum(each.nbytes for each in kept))
"""


STEPS = """
import resource, sys
import numpy as np
from recbole_signed.memory import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()

def step():
    return sum(int(each[0]) for each in [np.ones(8 << 20, dtype=np.int8) for _ in range(4)])

step(), step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_a_step_finds_the_memory_of_the_step_before() -> None:
    found = {
        how: int(subprocess.run([sys.executable, "-c", STEPS, how], stdout=subprocess.PIPE, check=True).stdout)
        for how in ("kept", "as it is")
    }
    assert found["as it is"] > 1000  # pages; else the script shows nothing
    assert found["kept"] < 100


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_what_is_freed_does_not_stay_resident() -> None:
    found = {
        how: int(subprocess.run([sys.executable, "-c", SCRIPT, how], stdout=subprocess.PIPE, check=True).stdout)
        for how in ("held", "as it is")
    }
    assert found["as it is"] > 50 << 20  # else the script shows nothing
    assert found["held"] < 5 << 20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_the_size_is_what_the_system_counts_in_pages() -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    assert memory_bytes()[0] == pytest.approx(pages * os.sysconf("SC_PAGE_SIZE"), rel=0.05)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="VmHWM is Linux'")
def test_peak_memory_is_of_this_run_alone() -> None:
    block = bytearray(os.urandom(1) * 200_000_000)
    high = memory_bytes()[1]
    del block
    reset_peak_memory()
    now, low = memory_bytes()
    assert low < high - 100_000_000
    assert now <= low
