"""A service that is killed, and follows a stream whose server hangs or is killed, loses and doubles nothing.

Batches come in any order, and a fifth of the events twice. Kafka's brokers are those of librdkafka, which keep messages
in memory: they hang, and are not killed.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from service_process import begun, metric
from small_recommender import NOW, begin
from waiting import until

from recbole_signed.live import OnlineRecommender
from recbole_signed.live.events import NAMES

pytestmark = pytest.mark.slow
SUPPORT = Path(__file__).resolve().parents[1] / "support"
N_EVENTS, BATCH = 3000, 50
BROKERS = """
import json, sys
from kafka_brokers import Brokers
brokers = Brokers()
print(brokers.address, flush=True)
for line in sys.stdin:
    for row in json.loads(line):
        brokers.send("events", row, partition=int(row["user_id"][1:]) % 4)
"""


class Kafka:
    """Brokers in a process of their own."""

    def __init__(self, folder: Path) -> None:
        pytest.importorskip("confluent_kafka")
        environment = {**os.environ, "PYTHONPATH": f"{SUPPORT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        command = [sys.executable, "-c", BROKERS]
        self.process = subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env=environment)
        assert self.process.stdout is not None
        self.source = f"kafka://{self.process.stdout.readline().strip()}/events?group=mine"

    def send(self, rows: list[dict[str, Any]]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(rows) + "\n")
        self.process.stdin.flush()

    def fail(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(3)
        self.process.send_signal(signal.SIGCONT)


class Redis:
    """A server that writes each command to its disk."""

    def __init__(self, folder: Path) -> None:
        self._redis = pytest.importorskip("redis")
        self._binary = shutil.which("redis-server")
        if self._binary is None:
            pytest.skip("redis-server is not installed (Debian package redis-server)")
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.source = f"redis://127.0.0.1:{self._port}/0?stream=events&group=mine"
        self._client = self._redis.Redis(port=self._port)
        self._start()

    def _start(self) -> None:
        options = ["--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(self._folder), "--save", ""]
        options += ["--appendonly", "yes", "--appendfsync", "always"]
        self.process = subprocess.Popen([str(self._binary), *options], stdout=subprocess.DEVNULL)

    def send(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            while True:
                try:
                    self._client.xadd("events", row)
                    break
                except self._redis.RedisError:  # it may have been added: it comes twice then
                    time.sleep(0.1)

    def fail(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        time.sleep(1)
        self._start()


def events(rng: random.Random) -> list[dict[str, Any]]:
    """Likes and dislikes of few pairs, each at a moment of its own; in no order, a fifth of them twice."""
    made = [
        {
            "event_id": f"e{n}", "user_id": f"n{rng.randrange(60)}", "item_id": f"i{rng.randrange(1, 31)}",
            "type": rng.choice(["like", "dislike"]), "timestamp": NOW + n,
        }
        for n in range(N_EVENTS)
    ]  # fmt: skip
    sent = made + rng.sample(made, N_EVENTS // 5)
    rng.shuffle(sent)
    return sent


@pytest.mark.parametrize("kind", [Redis, Kafka])
def test_a_stream_and_a_service_that_fail_lose_and_double_nothing(kind: Any, tmp_path: Path) -> None:
    rng = random.Random(1)
    with contextlib.closing(begin(tmp_path / "state")) as new:
        before = int(new.current().applied_seq)
    stream, sent = kind(tmp_path), events(rng)
    stream.send(sent[:BATCH])  # the topic is there from its first message on
    config = tmp_path / "stream.yaml"
    config.write_text(json.dumps({"source": stream.source, "schedule": {"snapshot": 1, "refresh": 1, "refit": 4}}))
    service, port = begun(tmp_path, "--config", str(config))

    def seq() -> int:
        with contextlib.suppress(OSError):
            return int(metric(port, "seq")[""])
        return -1

    try:
        for number in range(BATCH, len(sent), BATCH):
            stream.send(sent[number : number + BATCH])
            turn = number // BATCH
            if turn in (15, 45):
                stream.fail()
            if turn in (10, 16, 30, 46):
                service.kill()
                service.wait()
                service, port = begun(tmp_path, "--config", str(config))
            time.sleep(0.05)
        until(lambda: seq() >= before + N_EVENTS, 120)
        time.sleep(2)
        assert seq() == before + N_EVENTS, "what came twice counts once"
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(60)
        stream.process.kill()
    newest = {(each["user_id"], each["item_id"]): each for each in sorted(sent, key=lambda each: each["timestamp"])}
    with contextlib.closing(OnlineRecommender.open(tmp_path / "state")) as opened, opened.reading() as (state, _):
        found = {}
        for user in {user for user, _ in newest}:
            row = state.edges.of_user(state.users.id_of(user))
            for item, sign, at in zip(state.items.tokens(row.ids.tolist()), row.kind, row.timestamp, strict=True):
                found[user, item] = (NAMES[sign], int(at))
    assert found == {pair: (each["type"], each["timestamp"]) for pair, each in newest.items()}
