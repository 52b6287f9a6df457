"""Read replicas that are killed, or stopped, under load: nothing that was acknowledged is lost, and they come back."""

import contextlib
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from service_callers import Caller, calling, results_of
from service_process import pids, served
from small_recommender import begin

pytestmark = pytest.mark.slow


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    begin(tmp_path / "state").close()
    with served(tmp_path, "--workers", "3") as port:
        yield port


def replicas(port: int, known: frozenset[int] = frozenset()) -> set[int]:
    """Return the numbers of two replicas, none of which is known."""
    deadline, found = time.monotonic() + 120, set[int]()
    while (len(found) < 2 or found & known) and time.monotonic() < deadline:
        with contextlib.suppress(OSError):  # a connection that the one that ended had accepted
            found = {pid for name, pid in pids(port).items() if name != "writer"}
        time.sleep(0.2)
    assert len(found) == 2
    assert not found & known
    return found


def test_replicas_killed_and_stopped_under_load(port: int) -> None:
    known, stop = replicas(port), threading.Event()
    callers = [Caller(port, number, stop) for number in range(4)]
    ended: set[int] = set()
    with calling(callers, stop):
        for sign in (signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP, signal.SIGKILL):
            time.sleep(1)
            one = min(known)
            os.kill(one, sign)
            ended.add(one)
            known = replicas(port, frozenset(ended))
    sent = [event for each in callers for event in each.acknowledged]
    print(f"\n{len(sent)} acknowledged, failed: {sum((each.failures for each in callers), Counter())}")
    assert len(sent) > 100
    assert {*results_of(port, sent)} == {"duplicate"}
