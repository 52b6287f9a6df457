"""What a service frees goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

from recbole_signed.serve import memory

SCRIPT = """
import sys
import numpy as np
from recbole_signed.serve.memory import hold_memory_down, resident_bytes

if sys.argv[1] == "held":
    hold_memory_down()
np.ones(30 << 20, dtype=np.int8).sum()  # freed: from now on glibc takes blocks up to this from its arena
before, kept = resident_bytes(), []
for _ in range(20):
    copy = np.ones(4 << 20, dtype=np.int8)
    kept.append((np.ones(50_000), copy))  # small ones that stay lie between large ones that go
kept = [small for small, _ in kept]
del copy
print(resident_bytes() - before - sum(each.nbytes for each in kept))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_what_is_freed_does_not_stay_resident() -> None:
    found = {
        how: int(subprocess.run([sys.executable, "-c", SCRIPT, how], stdout=subprocess.PIPE, check=True).stdout)
        for how in ("held", "as it is")
    }
    assert found["as it is"] > 50 << 20  # else the script shows nothing
    assert found["held"] < 5 << 20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_pages_have_the_size_that_the_system_says(monkeypatch: pytest.MonkeyPatch) -> None:
    before = memory.resident_bytes()
    monkeypatch.setattr(memory.resource, "getpagesize", lambda: 1 << 16)
    assert memory.resident_bytes() > 8 * before
