"""Drives a service over HTTP with simulated users."""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from recbole_signed.errors import UsageError
from recbole_signed.files import parse_json
from recbole_signed.live.serve.replicas import connection_to
from recbole_signed.live.serve.simulator import Outcome, Truth, simulate

LARGEST = 1 << 26
"""Bytes of an answer that are read."""


class Client:
    """A connection to a service that is kept open.

    Args:
        url: address of the service.
        key: API key.

    Raises:
        UsageError: the address is not one of HTTP, or the key is none that a header can hold.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        if key and not (key.isascii() and key.isprintable()):
            raise UsageError(f"the API key {key!r} has other characters than those that keys are made of.")
        self._connection = connection_to(url)
        self._headers = {"Content-Type": "application/json", **({"X-API-Key": key} if key else {})}
        self._url = url

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request and return the JSON of the answer.

        Raises:
            UsageError: the service can't be reached, or refuses.
        """
        content = None if body is None else json.dumps(body)
        try:
            self._connection.request(method, path, content, self._headers)
            response = self._connection.getresponse()
            answer = parse_json(response.read(LARGEST))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UsageError(f"{self._url} does not answer: {error}.") from error
        if response.status >= 400:
            cure = " Give one by --key or RECBOLE_SIGNED_KEY." if response.status == 401 else ""
            raise UsageError(f"{self._url} refuses {method} {path}: {_detail(answer, response.status)}{cure}")
        return answer

    def items(self, path: str) -> list[str]:
        """Return the items of a list.

        Raises:
            UsageError: as a call, or the answer is no list.
        """
        answer = self("GET", path)
        try:
            return [str(each["item"]) for each in answer["items"]]
        except (KeyError, TypeError) as error:
            raise UsageError(
                f"{self._url} answers {path} otherwise than 'recbole-signed serve'; look at the address."
            ) from error


def _detail(answer: Any, status: int) -> Any:
    return answer.get("detail", status) if isinstance(answer, dict) else status


def drive(url: str, dataset: str | None, rounds: int, k: int, seed: int, key: str | None = None) -> Outcome:
    """Let simulated users look at lists of a service and judge them, see :func:`~.simulator.simulate`.

    Args:
        url: address of the service.
        dataset: whose verdicts are the truth; None for planted tastes over the popular items of the service.
        rounds: number of lists.
        k: length of a list.
        seed: of users and verdicts.
        key: API key with the role write.

    Raises:
        UsageError: the service can't be reached, or there is no such data set.
    """
    client = Client(url, key)
    if dataset is None:
        items = client.items("/v1/popular?k=500")
        if not items:
            raise UsageError(f"{url} knows no item yet; give a data set (-d), or send it events.")
        planted = Truth.planted(200, len(items), seed)
        truth = Truth(planted.users, items, planted.like, planted.speaks)
    else:
        truth = _truth_of(dataset)

    def ask(user: str, length: int) -> Sequence[str]:
        return client.items(f"/v1/users/{quote(user, safe='')}/recommendations?k={length}")

    return simulate(
        truth, ask, lambda events: client("POST", "/v1/events", {"events": events}), rounds=rounds, k=k, seed=seed
    )


def _truth_of(dataset: str) -> Truth:
    from recbole_signed.atomic import read_rows
    from recbole_signed.runs.provenance import data_folder

    rows = read_rows(data_folder(dataset))
    assert rows.tokens is not None, "they are read from a file"
    verdict = rows.signs != 0
    users, items = (each.to_list() for each in rows.tokens)
    return Truth.of_edges(users, items, rows.users[verdict], rows.items[verdict], rows.signs[verdict])
