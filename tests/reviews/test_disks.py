"""A service on a disk that loses its power, or that has no room for another file."""

import contextlib
import http.client
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
from service_process import served
from small_recommender import N_ITEMS, begin
from waiting import until

from recbole_signed.live import OnlineRecommender

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


def pid_of(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        return int(float(answer.read().decode().rpartition("process_pid ")[2].split()[0]))


class Sender(threading.Thread):
    """Sends events one after the other, each about another pair; forgets a user now and then; notes what is taken."""

    def __init__(self, port: int, number: int) -> None:
        super().__init__(daemon=True)
        self._port, self._number = port, number
        self.acknowledged: list[tuple[str, str]] = []
        self.leaving: list[str] = []
        """Users whose forgetting was asked for; it may be taken before that is told."""
        self.forgotten: list[str] = []
        self.refused: list[int] = []
        self.stop_asked = False

    def run(self) -> None:
        turn = 0
        while not self.stop_asked:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
            with contextlib.suppress(OSError, http.client.HTTPException):
                while not self.stop_asked:
                    turn += 1
                    user, item = f"sender{self._number}-{turn // 20}", f"i{turn % N_ITEMS + 1}"
                    if turn % 50 == 49:  # a user of whom no more is sent
                        gone = f"sender{self._number}-{turn // 20 - 2}"
                        self.leaving.append(gone)
                        if self._call(connection, {"user_id": gone, "type": "forget_user"}) == 200:
                            self.forgotten.append(gone)
                    if self._call(connection, {"user_id": user, "item_id": item, "type": "like"}) == 200:
                        self.acknowledged.append((user, item))
            connection.close()

    def _call(self, connection: http.client.HTTPConnection, event: dict[str, str]) -> int:
        body = json.dumps({"events": [event]})
        connection.request("POST", "/v1/events", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            self.refused.append(answer.status)
            time.sleep(0.05)
        return answer.status


@contextlib.contextmanager
def sending(port: int, number: int = 3) -> Iterator[list[Sender]]:
    senders = [Sender(port, each) for each in range(number)]
    for each in senders:
        each.start()
    try:
        yield senders
    finally:
        for each in senders:
            each.stop_asked = True
        for each in senders:
            each.join(60)


Said = tuple[list[tuple[str, str]], set[str]]
"""Pairs whose likes were acknowledged and hold, and users whose forgetting was."""


def said(senders: list[Sender]) -> Said:
    gone = {user for each in senders for user in each.forgotten}
    leaving = {user for each in senders for user in each.leaving}
    return [pair for each in senders for pair in each.acknowledged if pair[0] not in leaving], gone


def lost(state: Path, acknowledged: list[tuple[str, str]], forgotten: set[str]) -> list[str]:
    """Name what was acknowledged and is not in a state that is opened."""
    with contextlib.closing(OnlineRecommender.open(state)) as opened, opened.reading() as (now, _):
        problems = [f"{user} is back" for user in forgotten if 0 < now.users.id_of(user) < now.edges.n_users
                    and len(now.edges.of_user(now.users.id_of(user)).ids)]  # fmt: skip
        liked: dict[str, set[str | None]] = {}
        for user in {user for user, _ in acknowledged}:
            ids = now.edges.of_user(now.users.id_of(user)).ids.tolist() if now.users.id_of(user) else []
            liked[user] = set(now.items.tokens(ids))
        return problems + [f"{user} {item}" for user, item in acknowledged if item not in liked[user]]


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
        with served(root, "--config", str(tmp_path / "busy.yaml")) as port, sending(port) as senders:
            for number in range(12):
                time.sleep(rng.uniform(0.2, 1.5))
                pid = pid_of(port)
                os.kill(pid, signal.SIGSTOP)
                time.sleep(0.05)  # what was answered before has arrived
                copies.append((tmp_path / f"copy{number}", *said(senders)))
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
            with sending(port) as senders:
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
                before = sum(len(each.acknowledged) for each in senders)
                until(lambda: sum(len(each.acknowledged) for each in senders) > before + 20)

                def ready() -> bool:
                    try:
                        urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=30).close()
                    except OSError:
                        return False
                    return True

                until(ready, 60)
            taken, gone = said(senders)
            refused = {status for each in senders for status in each.refused}
        print(f"\n{len(taken)} acknowledged, refused with {refused or 'nothing'}")
        assert refused <= {429, 503}
        assert lost(root / "state", taken, gone) == []
