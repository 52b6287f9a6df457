"""The small recommender over the folder ``state``, and a replica of it; both are closed at the end of a test."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from small_recommender import begin

from recbole_signed.live import OnlineRecommender
from recbole_signed.live.replica import OnlineReplica


@pytest.fixture
def recommender(tmp_path: Path) -> Iterator[OnlineRecommender]:
    with closing(begin(tmp_path / "state")) as made:
        yield made


@pytest.fixture
def writer(recommender: OnlineRecommender) -> OnlineRecommender:
    return recommender


@pytest.fixture
def replica(writer: OnlineRecommender) -> Iterator[OnlineReplica]:
    with closing(OnlineReplica(writer.directory)) as made:
        yield made
