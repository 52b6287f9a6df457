"""A service on a disk that loses its power, or that has no room for another file."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from service_callers import Caller, Event, calling, lost
from service_process import pids, served
from small_recommender import begin
from waiting import until

pytestmark = pytest.mark.slow
BUSY = {"schedule": {"refresh": 1, "refit": 3, "snapshot": 0.5, "compact": 1.5, "backup": 0}}


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """Mount something on a folder, where this process may."""
    folder.mkdir()
    done = subprocess.run(["mount", *options, folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def callers_of(port: int) -> tuple[list[Caller], threading.Event]:
    stop = threading.Event()
    return [Caller(port, number, stop, forgets=True) for number in range(3)], stop


Said = tuple[list[Event], set[str]]
"""Events that were acknowledged and hold, and users whose forgetting was."""


def said(callers: list[Caller]) -> Said:
    gone, leaving = ({user for each in callers for user in getattr(each, name)} for name in ("forgotten", "leaving"))
    return [each for caller in callers for each in [*caller.acknowledged] if each["user_id"] not in leaving], gone


def test_nothing_that_was_acknowledged_is_lost_with_the_power(tmp_path: Path) -> None:
    """Block by block, a copy of the disk is what a loss of power leaves of it: what the system holds back is not there.

    The journal of the file system is written each 300 s unless somebody waits for it.
    """
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("there is no mkfs.ext4 to make a disk with")
    image, root = tmp_path / "image", tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(256 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    (tmp_path / "busy.yaml").write_text(json.dumps(BUSY))
    rng, copies = random.Random(0), []
    with mounted(root, "-o", "loop,commit=300", str(image)):
        begin(root / "state").close()
        with served(root, "--config", str(tmp_path / "busy.yaml")) as port, calling(*callers_of(port)) as callers:
            for number in range(12):
                time.sleep(rng.uniform(0.2, 1.5))
                (pid,) = pids(port).values()
                os.kill(pid, signal.SIGSTOP)
                time.sleep(0.05)  # what was answered before has arrived
                copies.append((tmp_path / f"copy{number}", *said(callers)))
                subprocess.run(["cp", "--sparse=always", image, copies[-1][0]], check=True)
                os.kill(pid, signal.SIGCONT)
    assert len(copies[-1][1]) > 100
    assert copies[-1][2]
    for number, (copy, taken, gone) in enumerate(copies):
        with mounted(tmp_path / f"after{number}", "-o", "loop", str(copy)):
            assert lost(tmp_path / f"after{number}" / "state", taken, gone) == [], number
        copy.unlink()


def test_a_service_without_room_for_another_file_refuses_and_recovers(tmp_path: Path) -> None:
    root = tmp_path / "disk"
    (tmp_path / "busy.yaml").write_text(json.dumps(BUSY))
    with mounted(root, "-t", "tmpfs", "-o", "size=64m,nr_inodes=200", "none"):
        begin(root / "state").close()
        with served(root, "--config", str(tmp_path / "busy.yaml")) as port:
            with calling(*callers_of(port)) as callers:
                time.sleep(3)
                for number in range(200):
                    try:
                        (root / f"full{number}").touch()
                    except OSError:
                        break
                else:
                    pytest.fail("there was room for all files")
                time.sleep(6)  # snapshots, compactions and refits
                path = f"http://127.0.0.1:{port}/v1/users/u1/recommendations?k=5"
                with urllib.request.urlopen(path, timeout=30) as answer:
                    assert len(json.load(answer)["items"]) == 5
                for each in root.glob("full*"):
                    each.unlink()
                before = sum(len(each.acknowledged) for each in callers)
                until(lambda: sum(len(each.acknowledged) for each in callers) > before + 20)

                def ready() -> bool:
                    try:
                        urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=30).close()
                    except OSError:
                        return False
                    return True

                until(ready, 60)
            taken, gone = said(callers)
            refused = {status for each in callers for status in each.failures} - {0, 409}  # a list may come late
        print(f"\n{len(taken)} acknowledged, refused with {refused or 'nothing'}")
        assert refused <= {429, 503}
        assert lost(root / "state", taken, gone) == []
