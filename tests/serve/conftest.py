"""A service over a small SSF whose state begins with the rows of ``signed_rows``."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from recbole_signed.live import OnlineTrainer
from recbole_signed.live.serve.app import make_app
from recbole_signed.live.serve.engine import Engine
from recbole_signed.live.serve.experiments import Experiments
from recbole_signed.live.serve.keys import ApiKeys
from recbole_signed.live.serve.settings import ServeSettings


@pytest.fixture
def recommender(prepare_model: Callable[..., Any], tmp_path: Path) -> Iterator[OnlineTrainer]:
    model, config, parts = prepare_model("SSF", auto=False, rank=8, cutoff=4, online_state=str(tmp_path / "state"))
    recommender = OnlineTrainer(config, model)
    recommender.fit(parts[0], saved=False, show_progress=False)
    yield recommender
    recommender.close()


@pytest.fixture
def serve(recommender: OnlineTrainer, tmp_path: Path) -> Iterator[Callable[..., TestClient]]:
    """Make a client of a service; settings and experiments as keywords."""
    engines: list[Engine] = []

    def make(keys: Path | None = None, experiments: Experiments | None = None, **settings: Any) -> TestClient:
        engine = Engine(recommender, ServeSettings.model_validate(settings), experiments, tmp_path / "state")
        engines.append(engine)
        client = TestClient(make_app(engine, ApiKeys(keys)))
        client.engine = engine  # type: ignore[attr-defined]
        return client

    yield make
    for engine in engines:
        engine.close()


@pytest.fixture
def client(serve: Callable[..., TestClient]) -> TestClient:
    return serve()


@pytest.fixture
def engine(client: TestClient) -> Engine:
    return client.engine  # type: ignore[attr-defined]
