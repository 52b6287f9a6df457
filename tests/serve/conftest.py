"""A service over a small SSF whose state begins with the rows of ``signed_rows``."""

from collections.abc import Callable, Iterator
from contextlib import closing
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
def begun(prepare_model: Callable[..., Any], tmp_path: Path) -> Callable[..., OnlineTrainer]:
    """Begin the state with a model by its name, and the model's settings as keywords."""

    def start(name: str, **settings: Any) -> OnlineTrainer:
        model, config, parts = prepare_model(name, online_state=str(tmp_path / "state"), **settings)
        recommender = OnlineTrainer(config, model)
        recommender.fit(parts[0], saved=False, show_progress=False)
        return recommender

    return start


@pytest.fixture
def recommender(begun: Callable[..., OnlineTrainer]) -> Iterator[OnlineTrainer]:
    with closing(begun("SSF", auto=False, rank=8, cutoff=4)) as recommender:
        yield recommender


@pytest.fixture
def countries(tmp_path: Path) -> None:
    """Give the data set a country of each user."""
    folder = tmp_path / "dataset" / "small"
    folder.mkdir(parents=True)
    users = [f"{user}\tc{user % 5}" for user in range(60)]
    (folder / "small.user").write_text("\n".join(["user_id:token\tcountry:token", *users]) + "\n")


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
