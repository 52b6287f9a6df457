"""Read replicas that are killed, or stopped, under load: nothing that was acknowledged is lost, and they come back."""

import contextlib
import http.client
import json
import os
import re
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from service_process import served
from small_recommender import N_ITEMS, begin

pytestmark = pytest.mark.slow
PIDS = re.compile(r'^recbole_signed_process_pid{process="([\w-]+)"} (\S+)$', re.MULTILINE)


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    begin(tmp_path / "state").close()
    with served(tmp_path, "--workers", "3") as port:
        yield port


def pids(port: int) -> dict[str, int]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return {name: int(float(value)) for name, value in PIDS.findall(answer.read().decode())}


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


class Caller(threading.Thread):
    """Sends events, each about another pair, and looks whether the lists follow, on one connection after another."""

    def __init__(self, port: int, number: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._port, self._number, self._stop_asked = port, number, stop
        self.acknowledged: list[dict[str, str]] = []
        self.failures, self.wrong = 0, ""

    def run(self) -> None:
        turn = 0
        while not self._stop_asked.is_set() and not self.wrong:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
            try:
                for _ in range(5):
                    turn += 1
                    user, item = f"caller{self._number}-{turn // N_ITEMS}", f"i{turn % N_ITEMS + 1}"
                    event = {"event_id": f"{user}-{item}", "user_id": user, "item_id": item, "type": "dislike"}
                    status, written = self._call(connection, "POST", "/v1/events", {"events": [event]})
                    if status != 200:
                        self.failures += 1
                        continue
                    self.acknowledged.append(event)
                    path = f"/v1/users/{user}/recommendations?k=5&min_seq={written['seq']}"
                    status, listed = self._call(connection, "GET", path)
                    if status == 200 and item in [each["item"] for each in listed["items"]]:
                        self.wrong = f"{item} is in the list of {user}, who dislikes it"
                    self.failures += status != 200
            except (OSError, http.client.HTTPException):
                self.failures += 1
            finally:
                connection.close()

    @staticmethod
    def _call(connection: http.client.HTTPConnection, method: str, path: str, body: object = None) -> tuple[int, dict]:
        sent = None if body is None else json.dumps(body)
        connection.request(method, path, sent, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def test_replicas_killed_and_stopped_under_load(port: int) -> None:
    known, stop = replicas(port), threading.Event()
    callers = [Caller(port, number, stop) for number in range(4)]
    for each in callers:
        each.start()
    ended: set[int] = set()
    for sign in (signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP, signal.SIGKILL):
        time.sleep(1)
        one = min(known)
        os.kill(one, sign)
        ended.add(one)
        known = replicas(port, frozenset(ended))
    stop.set()
    for each in callers:
        each.join(30)
        assert not each.wrong, each.wrong
    sent = [event for each in callers for event in each.acknowledged]
    results = []
    for first in range(0, len(sent), 500):
        body = json.dumps({"events": sent[first : first + 500]}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/events", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            results += json.loads(answer.read())["results"]
    print(f"\n{len(sent)} acknowledged, {sum(each.failures for each in callers)} requests failed")
    assert len(sent) > 100
    assert {each["status"] for each in results} == {"duplicate"}
