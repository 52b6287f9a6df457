"""Killed under load, the service loses no event that it acknowledged, and is back within seconds.

A few kills of a small state run with the other tests; a hundred of one with a million edges with::

    python -m pytest -n 0 -s -m slow tests/serve/test_kills.py
"""

import contextlib
import http.client
import os
import random
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from service_callers import Caller, Event, call, calling, lost, results_of
from service_process import begun
from small_recommender import begin, begin_large
from waiting import until


def run(folder: Path, n_kills: int) -> tuple[list[Event], list[float], list[float]]:
    """Kill a service so often under load, and hold the state that is left against all that was acknowledged.

    Returns what was acknowledged, and the seconds and the processor time from each start to the first list.
    """
    kept: list[Event] = []
    new: list[Event] = []
    unanswered: list[Event] = []
    seconds: list[float] = []
    cpu: list[float] = []
    for n in range(n_kills):
        began, stop = time.perf_counter(), threading.Event()
        process, port = begun(folder)
        callers = [Caller(port, 3 * n + each, stop, (1, 1, 5, 20)) for each in range(3)]
        try:
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
                assert call(connection, "GET", "/v1/users/u1/recommendations")[1]["items"]
            seconds.append(time.perf_counter() - began)
            fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
            cpu.append((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))
            assert {*results_of(port, new)} <= {"duplicate"}, "what was acknowledged before the kill is lost"
            assert {*results_of(port, unanswered)} <= {"accepted", "duplicate"}
            kept += new + unanswered
            with calling(callers, stop):
                until(lambda: any(each.acknowledged for each in callers))  # noqa: B023
                time.sleep(random.random() * 0.5)
                process.kill()
        finally:
            process.kill()
            process.wait()
        new = [event for each in callers for event in each.acknowledged]
        unanswered = [event for each in callers for event in each.unanswered]
        if n % 10 == 9:
            print(f"{n + 1} kills, {len(kept) + len(new)} acknowledged events", flush=True)
    assert lost(folder / "state", kept + new) == []
    return kept + new, seconds, cpu


def test_a_killed_service_loses_nothing(tmp_path: Path) -> None:
    begin(tmp_path / "state").close()
    assert len(run(tmp_path, 3)[0]) > 3


@pytest.mark.slow
def test_a_hundred_kills_at_a_million_edges(tmp_path: Path) -> None:
    begin_large(tmp_path / "state", 1_000_000, 20_000, 7_500)
    load = os.getloadavg()[0]
    acknowledged, *times = run(tmp_path, int(os.environ.get("KILLS", "100")))
    seconds, cpu = map(np.array, times)
    print(
        f"\n{len(seconds)} kills, {len(acknowledged)} acknowledged events, none lost; back after "
        f"{np.median(seconds):.1f} s (longest {seconds.max():.1f}), {np.median(cpu):.1f} s of processor time "
        f"(longest {cpu.max():.1f}); load {load:.1f} to {os.getloadavg()[0]:.1f}"
    )
    # a machine that does other things makes the clock slow, not the service
    assert np.median(cpu) < 5
