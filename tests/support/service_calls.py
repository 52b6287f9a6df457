"""What tests ask of a service over HTTP."""

import time
from collections.abc import Callable
from typing import Any

from fastapi.testclient import TestClient

Make = Callable[..., TestClient]
"""The fixture ``serve``: makes a client of a service, with settings and experiments as keywords."""
NOW = 1_700_000_000_000


def items(client: TestClient, user: str, **query: Any) -> list[str]:
    answer = client.get(f"/v1/users/{user}/recommendations", params=query)
    assert answer.status_code == 200, answer.text
    return [each["item"] for each in answer.json()["items"]]


def send(client: TestClient, user: str, item: str, kind: str, **fields: Any) -> dict[str, Any]:
    answer = client.post("/v1/events", json={"events": [{"user_id": user, "item_id": item, "type": kind, **fields}]})
    assert answer.status_code == 200, answer.text
    return answer.json()


def until(what: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something, and fail where it has not come in time."""
    deadline = time.monotonic() + seconds
    while not what() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert what()
