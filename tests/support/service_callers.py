"""Callers of a service under load, who remember what it acknowledged and hold it against the state that is left."""

import contextlib
import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from small_recommender import N_ITEMS

from recbole_signed.live import OnlineRecommender
from recbole_signed.live.events import NAMES

Event = dict[str, str]


def call(connection: http.client.HTTPConnection, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """Send a request, and return the status and the JSON of its answer."""
    sent = None if body is None else json.dumps(body)
    connection.request(method, path, sent, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def results_of(port: int, events: list[Event]) -> list[str]:
    """Send events, and return what became of each."""
    found: list[str] = []
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        for first in range(0, len(events), 500):
            status, answer = call(connection, "POST", "/v1/events", {"events": events[first : first + 500]})
            assert status == 200, answer
            found += [each["status"] for each in answer["results"]]
    return found


class Caller(threading.Thread):
    """Sends events, each about another pair, and looks whether lists follow, on one connection after another.

    Args:
        port: of the service.
        number: of the caller, by which its users are called.
        stop: set where it is to end.
        batches: numbers of events that are sent at once.
        forgets: whether users leave now and then; no more is sent of them.
    """

    def __init__(
        self, port: int, number: int, stop: threading.Event, batches: tuple[int, ...] = (1,), *, forgets: bool = False
    ) -> None:
        super().__init__(daemon=True)
        self._port, self._number, self._stop_asked = port, number, stop
        self._batches, self._forgets, self._turn = batches, forgets, 0
        self.acknowledged: list[Event] = []
        self.unanswered: list[Event] = []
        self.leaving: set[str] = set()
        """Users whose forgetting was asked for; it may be taken before that is told."""
        self.forgotten: set[str] = set()
        self.failures = Counter[int]()
        """Answers by status that were no success; 0 is none at all."""
        self.wrong = ""

    def run(self) -> None:
        while not (self._stop_asked.is_set() or self.wrong):
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
            try:
                for _ in range(5):
                    self._exchange(connection)
            except (OSError, http.client.HTTPException):
                self.failures[0] += 1
                time.sleep(0.02)
            finally:
                connection.close()

    def _exchange(self, connection: http.client.HTTPConnection) -> None:
        sent = [self._next() for _ in range(random.choice(self._batches))]
        user = sent[0]["user_id"]
        self.unanswered += sent
        status, written = call(connection, "POST", "/v1/events", {"events": sent})
        self.unanswered = self.unanswered[: -len(sent)]
        if status != 200:
            self.failures[status] += 1
            time.sleep(0.05)
            return
        self.acknowledged += sent
        path = f"/v1/users/{user}/recommendations?k=20&min_seq={written['seq']}"
        status, listed = call(connection, "GET", path)
        self.failures.update([status] if status != 200 else [])
        if status == 200 and sent[0]["item_id"] in [each["item"] for each in listed["items"]]:
            self.wrong = f"{sent[0]['item_id']} is in the list of {user}, who has judged it"
        if self._forgets and self._turn % 50 == 49:
            gone = f"caller{self._number}-{self._turn // 20 - 2}"
            self.leaving.add(gone)
            if call(connection, "POST", "/v1/events", {"events": [{"user_id": gone, "type": "forget_user"}]})[0] == 200:
                self.forgotten.add(gone)

    def _next(self) -> Event:
        self._turn += 1
        user, item = f"caller{self._number}-{self._turn // 20}", f"i{self._turn % N_ITEMS + 1}"
        kind = random.choice(["like", "dislike"])
        return {"event_id": f"{user}-{item}", "user_id": user, "item_id": item, "type": kind}


@contextlib.contextmanager
def calling(callers: list[Caller], stop: threading.Event) -> Iterator[list[Caller]]:
    """Let callers call meanwhile; what they saw has to be right."""
    for each in callers:
        each.start()
    try:
        yield callers
    finally:
        stop.set()
    for each in callers:
        each.join(60)
        assert not each.is_alive()
        assert not each.wrong, each.wrong


def lost(state: Path, events: Iterable[Event], forgotten: Iterable[str] = ()) -> list[str]:
    """Name what was acknowledged and is not in a state that is opened: events, and the forgetting of users."""
    with contextlib.closing(OnlineRecommender.open(state)) as opened, opened.reading() as (now, _):

        def held(user: str) -> dict[str | None, str]:
            number = now.users.id_of(user)
            if not 0 < number < now.edges.n_users:
                return {}
            row = now.edges.of_user(number)
            return dict(
                zip(now.items.tokens(row.ids.tolist()), (NAMES[kind] for kind in row.kind.tolist()), strict=True)
            )

        back = [f"{user} is back" for user in forgotten if held(user)]
        return back + [str(each) for each in events if held(each["user_id"]).get(each["item_id"]) != each["type"]]
