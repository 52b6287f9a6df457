"""What every sequential model of this package must do, whatever it is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from interrupted_training import interrupted
from prepared import instance, prepared
from recbole.utils import ModelType, get_model, init_seed

from recbole_signed.plugin import registry

OURS = sorted(
    name
    for name, entry in registry.models().items()
    if entry.module.startswith("recbole_signed.") and get_model(name).type == ModelType.SEQUENTIAL
)
COLUMNS = ["user_id:token", "item_id:token", "sign:float", "timestamp:float"]
LOAD = {"inter": ["user_id", "item_id", "sign", "timestamp"]}
SMALL = {"hidden_size": 16, "inner_size": 32, "n_layers": 1, "MAX_ITEM_LIST_LENGTH": 8, "learning_rate": 0.01}
N_ITEMS = 24
Row = tuple[str, str, int, int]


@dataclass
class Fitted:
    """A model and what it was fitted to."""

    model: Any
    config: Any
    dataset: Any
    parts: tuple[Any, Any, Any]

    def scores(self) -> torch.Tensor:
        """Scores of all users after all that they did, users and items by name."""
        latest = self.dataset.latest()
        names = [self.dataset.field2id_token[field] for field in ("user_id", "item_id")]
        with torch.no_grad():
            found = self.model.full_sort_predict(latest).view(len(latest), -1)
        rows = np.argsort(names[0][latest["user_id"].numpy()].astype(str))
        columns = 1 + np.argsort(names[1][1:].astype(str))
        return found[torch.from_numpy(rows)][:, torch.from_numpy(columns)]


Build = Callable[..., Fitted]


@pytest.fixture
def rows() -> list[Row]:
    """Walks around a circle of items: a user likes one item after the other, and dislikes the one three further on."""
    rng = np.random.default_rng(3)
    found: list[Row] = []
    for user in range(40):
        start, clock = int(rng.integers(N_ITEMS)), 0
        for step in range(9):
            clock += 2
            found.append((f"u{user}", f"i{(start + step) % N_ITEMS:02}", 1, clock))
            if step % 3 == 0:
                found.append((f"u{user}", f"i{(start + step + 14) % N_ITEMS:02}", -1, clock + 1))
    return found


@pytest.fixture
def build(write_inter: Callable[..., Path]) -> Build:
    """Write the rows, build a model on them, and fit it."""
    names = iter(range(100))

    def make(name: str, rows: list[Row], *, fit: bool = True, **config: Any) -> Fitted:
        dataset_name = f"contract{next(names)}"
        write_inter(dataset_name, COLUMNS, rows)
        given = {"load_col": LOAD, "epochs": 5, "show_progress": False, **SMALL, **config}
        settings, data, parts = prepared(dataset_name, name, **given)
        init_seed(settings["seed"], settings["reproducibility"])
        return Fitted(instance(settings, parts, fit=fit), settings, data, parts)

    return make


pytestmark = pytest.mark.parametrize("name", OURS)


def test_scores_untrained_and_survives_a_deep_copy(name: str, rows: list[Row], build: Build) -> None:
    fitted = build(name, rows, fit=False)
    assert torch.isfinite(fitted.scores()).all()
    batch = fitted.parts[0]._dataset[torch.arange(3)]
    torch.testing.assert_close(copy.deepcopy(fitted.model).predict(batch), fitted.model.predict(batch))
    assert fitted.model.predict(batch).shape == (3,)


def test_predict_is_the_gathered_full_sort(name: str, rows: list[Row], build: Build) -> None:
    fitted = build(name, rows)
    batch = fitted.parts[2]._dataset[torch.arange(10)]
    full = fitted.model.full_sort_predict(batch).view(10, -1)
    torch.testing.assert_close(fitted.model.predict(batch), full[torch.arange(10), batch["item_id"]])


def test_what_comes_next_is_ranked_first_and_what_is_disliked_last(name: str, rows: list[Row], build: Build) -> None:
    scores = build(name, rows, epochs=60).scores()
    users = sorted({row[0] for row in rows})
    above_disliked, above_others = [], []
    for place, user in enumerate(users):
        last = int(max([row for row in rows if row[0] == user and row[2] > 0], key=lambda row: row[3])[1][1:])
        following = scores[place, (last + 1) % N_ITEMS]
        above_disliked.append(float((following > scores[place, [(last + 14) % N_ITEMS]]).float().mean()))
        above_others.append(float((following > scores[place]).float().sum()) / (N_ITEMS - 1))
    assert np.mean(above_others) > 0.9
    assert np.mean(above_disliked) > 0.9


def test_signs_change_the_scores(name: str, rows: list[Row], build: Build) -> None:
    turned = [(*row[:2], -row[2], row[3]) if row[3] == 9 else row for row in rows]
    assert not torch.allclose(build(name, rows).scores(), build(name, turned).scores())


def test_what_is_saved_is_what_is_loaded(name: str, rows: list[Row], build: Build, tmp_path: Path) -> None:
    fitted = build(name, rows)
    torch.save(fitted.model.state_dict(), tmp_path / "state.pt")
    other = build(name, rows, fit=False)
    other.model.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(other.scores(), fitted.scores())


def test_training_gives_no_warning(name: str, rows: list[Row], build: Build, recwarn: pytest.WarningsRecorder) -> None:
    build(name, rows, epochs=2)
    assert [str(each.message) for each in recwarn if not issubclass(each.category, DeprecationWarning)] == []


def test_training_that_was_interrupted_gives_what_it_would_have_given(name: str, rows: list[Row], build: Build) -> None:
    whole = build(name, rows, epochs=6).scores()
    assert torch.equal(interrupted(partial(build, name, rows, fit=False)).scores(), whole)
