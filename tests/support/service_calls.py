"""What tests ask of a service over HTTP."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi.testclient import TestClient

from recbole_signed.live.serve.app import make_app
from recbole_signed.live.serve.engine import Engine
from recbole_signed.live.serve.experiments import Experiments, parse_experiment
from recbole_signed.live.serve.settings import ServeSettings
from recbole_signed.live.serve.start import listening_socket

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


def check_problem(answer: Any, status: int, said: str) -> None:
    """Check that a request is refused with a status and a text in the detail."""
    __tracebackhide__ = True
    assert answer.status_code == status, answer.text
    assert said in answer.json()["detail"]


@contextmanager
def serving(source: Any, folder: Path | None = None, /, **settings: Any) -> Iterator[TestClient]:
    """Give a client of a service over a recommender or a replica, which is closed with it."""
    engine = Engine(source, ServeSettings.model_validate(settings), folder=folder)
    client = TestClient(make_app(engine))
    client.engine = engine  # type: ignore[attr-defined]
    try:
        yield client
    finally:
        engine.close()
        source.close()


@contextmanager
def answering(app: Any, **config: Any) -> Iterator[str]:
    """Answer at a port of this machine, and give the address; ``config`` is that of uvicorn."""
    bound = listening_socket("127.0.0.1", 0)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)  # what is not taken waits in the server
    server = uvicorn.Server(uvicorn.Config(app, **{"log_level": "warning", "lifespan": "off", **config}))
    thread = threading.Thread(target=lambda: server.run(sockets=[bound]), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{bound.getsockname()[1]}/"
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


def experiments_of(**raw: dict[str, Any]) -> Experiments:
    """Return experiments by name, as they stand in a file."""
    return Experiments({name: parse_experiment(name, each) for name, each in raw.items()})


def all_written(engine: Engine) -> None:
    """Wait until what was shown is in the log of impressions; what is shown later is not logged."""
    assert engine.impressions is not None
    engine.impressions.close()
    engine.impressions = None
