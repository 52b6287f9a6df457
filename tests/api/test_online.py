"""From a fitted model to one that follows events."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import recbole_signed as rs
from recbole_signed.errors import UsageError
from recbole_signed.live import OnlineRecommender

NOW = 1_700_000_000_000


@pytest.mark.parametrize("model", ["SSF", "SSFL", "SignedEASE", "SignediALS", "Pop"])
def test_a_fitted_model_goes_on_with_its_own_lists(model: str, data: Any, tmp_path: Path) -> None:
    given: dict[str, Any] = {"online_settings": {"dislike_strength": 0}}  # which other models have live alone
    if model in ("SSF", "SSFL"):
        given = {"auto": False, "rank": 16, "cutoff": 8}
    fitted = rs.fit(model, data, valid=0, **given)
    fitted.save(tmp_path / "saved")
    for name, each in (("loaded", rs.load(tmp_path / "saved")), ("state", fitted)):
        with contextlib.closing(each.online(tmp_path / name)) as live:
            for user in ("user 3", "user 8"):
                mine = live.recommend(user, k=8)
                assert [item for item, _ in mine] == fitted.recommend(user, k=8)["item"].to_list()
    with contextlib.closing(OnlineRecommender.open(tmp_path / "state")) as again:
        assert again.recommend("user 8", k=8) == mine


@pytest.mark.parametrize("model", ["SSF", "SSFL", "SSFT"])
def test_what_order_decides_goes_by_names_in_a_state_too(model: str, tmp_path: Path) -> None:
    """Of close singular values, and of verdicts of one moment, which pairs count by what lies between them."""
    rng = np.random.default_rng(0)
    pairs = rng.permutation(2000 * 1500)[:9000]
    when = 1_600_000_000 + rng.integers(0, 3, len(pairs))
    columns = {"who": pairs // 1500, "what": pairs % 1500, "rating": rng.integers(1, 6, len(pairs)), "when": when}
    rows, new = pl.DataFrame(columns), str(next(item for item in range(1500) if 5 * 1500 + item not in pairs))
    data = rs.from_frame(rows, user="who", item="what", like="rating >= 3", dislike="rating <= 2", time="when")
    fitted = rs.fit(model, data, valid=0, auto=False, rank=128, cutoff=120, dislike_strength=0.0)
    with contextlib.closing(fitted.online(tmp_path / "state")) as live:
        live.update([rs.Event("", "5", new, "like", NOW)])
        live.update([rs.Event("", "5", new, "unlike", NOW + 1)])  # its pairs are taken back
        for user in map(str, range(40)):
            wanted = fitted.recommend(user, k=20)
            found = live.recommend(user, k=20)
            assert [item for item, _ in found] == wanted["item"].to_list()
            assert [score for _, score in found] == pytest.approx(wanted["score"].to_list(), rel=1e-6)


@pytest.mark.parametrize("model", ["SignedEASE", "Pop"])
def test_who_has_dislikes_alone_gets_popular_items_lowered_near_these(
    model: str, frame: pl.DataFrame, tmp_path: Path
) -> None:
    """The fitted model gave plain popularity, and its lists were not those of the live one."""
    for user, item in (("one", 103), ("another", 106)):
        row = {"who": user, "what": item, "rating": 1.0, "when": 1_600_900_001}
        frame = pl.concat([frame, pl.DataFrame([row], schema=frame.schema)])
    data = rs.from_frame(frame, user="who", item="what", like="rating >= 4", dislike="rating <= 2", time="when")
    fitted = rs.fit(model, data, valid=0, dislike_strength=1.0)
    with contextlib.closing(fitted.online(tmp_path / "state")) as live:
        for user in ("one", "another"):
            mine = fitted.recommend(user, k=30)
            wanted = live.recommend(user, k=30)
            assert mine["item"].to_list() == [item for item, _ in wanted]
            assert mine["score"].to_list() == pytest.approx([score for _, score in wanted], rel=1e-5)
            assert fitted.recommend(user, k=30, dislike_strength=0)["score"].to_list() != mine["score"].to_list()


def test_one_event_changes_the_list_of_a_fitted_model(ssf: Any, tmp_path: Path) -> None:
    best = ssf.recommend("user 3", k=1)["item"][0]
    with contextlib.closing(ssf.online(str(tmp_path / "state"))) as live:
        live.update([rs.Event("", "user 3", best, "dislike", NOW)])
        assert best not in [item for item, _ in live.recommend("user 3", k=30)]
        live.update([rs.Event("", "someone", best, "like", NOW)])
        assert live.recommend("someone", k=3)


def test_a_model_that_cannot_go_on_is_refused_and_leaves_no_folder(data: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ItemKNN"):
        rs.fit("ItemKNN", data).online(tmp_path / "state")
    assert not (tmp_path / "state").exists()


def test_a_folder_that_holds_a_state_is_refused(ssf: Any, tmp_path: Path) -> None:
    ssf.online(tmp_path / "state").close()
    with pytest.raises(UsageError, match="empty"):
        ssf.online(tmp_path / "state")
