"""The small recommender over the folder ``state``, a replica of it, and models that RecBole trains and that go online.

All are closed at the end of a test.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prepared import new_trainer, prepared
from small_recommender import Opens, begin

from recbole_signed.live import OnlineRecommender, OnlineTrainer
from recbole_signed.live.replica import OnlineReplica
from recbole_signed.live.store.settings import StateSettings

FIELDS = ["user_id:token", "item_id:token", "sign:float", "timestamp:float"]
GRADIENTS = {"embedding_size": 8, "online_settings": {"refresh_steps": 2, "valid_share": 0.0}}  # it still moves fast
EDGES = {**GRADIENTS, "n_negatives": 5, "train_batch_size": 512}
TRAINED: dict[str, dict[str, Any]] = {
    "SSF": {"auto": False, "rank": 8},
    "SSFL": {"auto": False, "rank": 8, "learned_rank": 6},
    # the events come years after the training part: to a trend they would be all that is recent
    "SSFT": {
        "auto": False,
        "rank": 8,
        "order_weights": [0.2, *[0] * 6, 1.0, 0.7, 0.6, 0.3, 0, 0.1, 0.1, 0, 0.2, *[0] * 6],
    },
    "SignedEASE": {},
    "SignediALS": {"embedding_size": 8},
    **dict.fromkeys(("BPR", "LightGCN"), GRADIENTS),
    **dict.fromkeys(("LSGRec", "SiReN", "PANEGNN"), EDGES),
}


@pytest.fixture
def opens(tmp_path: Path) -> Iterator[Opens]:
    """Open the state in ``state``, begun where there is none, in the place of the one that this has opened before.

    Limits of the state hold until others are given.
    """
    opened, folder, limits = list[OnlineRecommender](), tmp_path / "state", dict[str, Any]()

    def again(**more: Any) -> OnlineRecommender:
        for each in opened:
            each.close()
        limits.update(more)
        there, settings = folder.exists(), StateSettings(**limits)
        opened.append(OnlineRecommender.open(folder, settings=settings) if there else begin(folder, state=settings))
        return opened[-1]

    yield again
    for each in opened:
        each.close()


@pytest.fixture
def recommender(opens: Opens) -> OnlineRecommender:
    return opens()


@pytest.fixture
def writer(recommender: OnlineRecommender) -> OnlineRecommender:
    return recommender


@pytest.fixture
def replica(writer: OnlineRecommender) -> Iterator[OnlineReplica]:
    with closing(OnlineReplica(writer.directory)) as made:
        yield made


@pytest.fixture
def starts(
    write_inter: Callable[..., Path], signed_rows: list[tuple[int, ...]], tmp_path: Path, quick: dict[str, Any]
) -> Iterator[Callable[..., OnlineTrainer]]:
    """Train a model by its name and go online; its ``.parts`` are those of the data set.

    A second call goes on from the same folder, with ``more`` rows appended, or some put ``before``.
    """
    named = [(f"u{user}", f"i{item}", sign, time) for user, item, sign, time in signed_rows]
    given = {
        **quick, "data_path": str(tmp_path / "dataset"), "load_col": {"inter": [each.split(":")[0] for each in FIELDS]},
        "eval_args": {"order": "TO", "split": {"RS": [0.8, 0.1, 0.1]}, "group_by": None, "mode": "full"},
        "trainer": "OnlineTrainer", "online_state": str(tmp_path / "state"), "checkpoint_dir": str(tmp_path / "saved"),
    }  # fmt: skip
    opened: list[Any] = []

    def start(model: str, more: Sequence[Any] = (), before: Sequence[Any] = (), **config: Any) -> OnlineTrainer:
        if more or before or not opened:  # else what a test has written in its place stays
            write_inter("stream", FIELDS, [*before, *named, *more])
        settings, _, parts = prepared("stream", model, **{**given, **TRAINED[model], **config})
        opened.append(new_trainer(settings, parts))
        opened[-1].parts = parts
        opened[-1].fit(parts[0], parts[1], saved=False, show_progress=False)
        return opened[-1]

    yield start
    for trainer in opened:
        trainer.close()


@pytest.fixture(params=list(TRAINED))
def start(request: pytest.FixtureRequest, starts: Callable[..., OnlineTrainer]) -> Callable[..., OnlineTrainer]:
    """Train each of the models and go online, see :func:`starts`."""
    return partial(starts, request.param)
