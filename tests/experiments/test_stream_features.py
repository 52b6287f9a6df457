"""Features of items in a replayed stream."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from refusals import check_refused

from recbole_signed.live.replay import summarise
from recbole_signed.live.replay.stream_run import run_stream
from recbole_signed.live.replay.stream_spec import StreamSpec
from recbole_signed.live.replay.windows import Replay, announced_features
from recbole_signed.live.store.state import OnlineState

START, DAY = 1_600_000_000, 86_400
GROUPS = 6
SETTINGS = {"rank": 8, "cutoff": 6, "feature_ridge": 1.0}


@pytest.fixture
def data(write_inter: Callable[..., Path]) -> Path:
    """Users like the items of their group; half of the events of a window are of items that came with it."""
    rng, rows = np.random.default_rng(3), []
    for moment in range(6000):
        newest, user = 60 + moment // 20, int(rng.integers(0, 120))
        item = int(rng.integers(newest - 30, newest) if rng.random() < 0.5 else rng.integers(0, newest))
        liked = rng.random() < (0.95 if user % GROUPS == item % GROUPS else 0.05)
        rows.append((f"u{user}", f"i{item}", 1 if liked else -1, START + moment * DAY // 100))
    folder = write_inter("news", ["user_id:token", "item_id:token", "sign:float", "timestamp:float"], rows)
    items = [f"i{item}\tg{item % GROUPS}" for item in range(400)]
    (folder / "news.item").write_text("\n".join(["item_id:token\tgroup:token", *items]) + "\n")
    return folder


@pytest.fixture
def spec(tmp_path: Path) -> Callable[..., StreamSpec]:
    def make(models: dict[str, Any], **changes: Any) -> StreamSpec:
        content = {"title": "News", "dataset": "news", "cut": 0.5, "windows": 10, "timed_events": 3, "models": models}
        path = tmp_path / "news.yaml"
        path.write_text(yaml.safe_dump({**content, **changes}))
        return StreamSpec.read(path)

    return make


def model(features: Any, **more: Any) -> dict[str, Any]:
    found = {"model": "SSF", "settings": SETTINGS, "arms": ["online"], **more}
    return found if features is None else {**found, "features": features}


def figures(summary: dict[str, Any]) -> dict[str, float]:
    rows = [row for row in summary["pooled"] if row["subset"] == "all"]
    return {row["model"]: row["recall@20"] for row in rows}


def test_new_items_are_found_by_their_features(data: Path, spec: Callable[..., StreamSpec], tmp_path: Path) -> None:
    both = spec({"plain": model(None), "told": model({"item": ["group"]}, settings={**SETTINGS, "feature_lift": 2.0})})
    found = figures(summarise(run_stream(both, data, tmp_path / "work", progress=False)))
    assert found["told"] > 1.5 * found["plain"]
    without = figures(summarise(run_stream(spec({"plain": model(None)}), data, tmp_path / "work", progress=False)))
    # items that are announced for another model are below all others for one that knows no features
    assert found["plain"] == pytest.approx(without["plain"], abs=1e-3)
    assert found["Pop"] == pytest.approx(without["Pop"], abs=5e-3)  # ties of items without a like


def test_values_unknown_at_the_cut_are_not_read(data: Path, spec: Callable[..., StreamSpec], tmp_path: Path) -> None:
    with (data / "news.item").open("a") as items:
        items.writelines(f"later{number}\tnew group\n" for number in range(30))
    models = spec({"told": model({"item": ["group"]})}).models
    with OnlineState.open(tmp_path / "state") as state:
        Replay.read(data, 0.5, 10).start(state)
        found = announced_features(models, data, state)["told"]
        assert sorted(found.space.tokens["group"]) == [f"g{number}" for number in range(GROUPS)]
        assert found.matrix.shape == (len(state.items), GROUPS + 1)  # a constant comes first
        assert found.matrix[state.items.id_of("later7")].nnz == 1
        assert found.matrix[state.items.id_of("i399")].nnz == 2, "announced, though it comes later"


def test_auto_chooses_what_is_made_of_features(data: Path, spec: Callable[..., StreamSpec], tmp_path: Path) -> None:
    auto = spec({"told": model({"item": "all"}, auto=True, settings={"rank": 8, "feature_ridge": 7.0})}, max_windows=10)
    out = run_stream(auto, data, tmp_path / "work", progress=False)
    chosen = json.loads((out / "settings.json").read_text())["told"]
    assert (chosen["feature_ridge"], chosen["predict_items"]) == (7.0, 1)


def test_by_the_event_too(data: Path, spec: Callable[..., StreamSpec], tmp_path: Path) -> None:
    both = spec({"plain": model(None), "told": model({"item": ["group"]})}, freshness=["0s", "window"])
    found = summarise(run_stream(both, data, tmp_path / "work", progress=False))
    assert {row["model"] for row in found["pooled"]} >= {"plain", "told"}


@pytest.mark.parametrize(
    ("features", "of", "said"),
    [
        ({"item": ["gruop"]}, "SSF", "gruop"),
        ({"user": "all"}, "SSF", "features of a replayed model"),
        ({"item": "all"}, "Pop", "does not use any"),
    ],
)
def test_what_can_not_be_told_is_refused(
    features: Any, of: str, said: str, data: Path, spec: Callable[..., StreamSpec], tmp_path: Path
) -> None:
    settings = SETTINGS if of == "SSF" else {}
    wrong = spec({"told": {"model": of, "settings": settings, "features": features}})
    check_refused(said, run_stream, wrong, data, tmp_path / "work", progress=False)


def test_a_stream_without_features_keeps_its_name(spec: Callable[..., StreamSpec]) -> None:
    """Results of an experiment lie below a hash of what they depend on: the key must not change that of older ones."""
    assert spec({"plain": model(None)}).hash() == "f8c5fa9f3c6f"
