"""The command ``respond``: what an event does to a list, and what undoes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_recommender import N_ITEMS, N_USERS, begin, small_edges

from recbole_signed.cli import app as cli
from recbole_signed.errors import UsageError
from recbole_signed.experiments.analysis import (
    asked_models,
    has_learner,
    overlap,
    respond,
    respond_all,
    responsiveness,
)
from recbole_signed.online import LIKE, OnlineRecommender
from recbole_signed.online.learners import make_learner

QUICK: dict[str, Any] = {"state": "ERROR", "epochs": 3, "eval_step": 1, "topk": [5]}


def slow_overlap(one: list[int], other: list[int], p: float) -> float:
    k = len(one)
    agreements = [len(set(one[:d]) & set(other[:d])) / d for d in range(1, k + 1)]
    return agreements[-1] * p**k + (1 - p) / p * sum(a * p**d for d, a in enumerate(agreements, 1))


@given(st.permutations(range(12)), st.permutations(range(12)), st.integers(1, 12))
def test_the_overlap_is_the_papers(one: list[int], other: list[int], k: int) -> None:
    found = overlap(one[:k], other[:k])
    assert found == pytest.approx(slow_overlap(one[:k], other[:k], 0.9))
    assert 0 <= found <= 1 + 1e-12
    assert overlap(one, one) == pytest.approx(1)
    assert overlap(one[:6], [item + 100 for item in other[:6]]) == 0


def test_lists_without_items_do_not_differ() -> None:
    assert overlap([], []) == 1.0


@pytest.mark.parametrize("model", ["SSF", "SSFL", "SignedEASE", "SignediALS", "Pop", "LightGCN"])
def test_a_disliked_item_goes_and_what_is_taken_back_leaves_nothing(model: str, toy: str) -> None:
    found = respond(model, toy, overrides=QUICK, n_users=6, k=5)
    summary = found["summary"]
    assert len(found["probes"]) == summary["users"] == 6
    assert summary["gone"] == 1
    assert summary["restored"] == 1
    assert summary["exact"] == 1 or model == "SignedEASE"  # which corrects an inverse, and leaves its rounding
    assert 0 <= summary["overlap_dislike"] <= 1
    if model == "Pop":  # the same list for everybody, but for what is hidden
        assert summary["overlap_dislike"] == pytest.approx(1)
        assert summary["falling"] == 0.5
        assert summary["near_after"] == summary["near_before"]  # in the places that both lists have
    again = respond(model, toy, overrides=QUICK, n_users=6, k=5)
    for one, other in zip(found["probes"], again["probes"], strict=True):
        assert {**one, "milliseconds": 0} == {**other, "milliseconds": 0}


def test_neighbours_are_the_items_whose_likes_are_most_alike(tmp_path: Path) -> None:
    live = begin(tmp_path / "state", "Pop")
    audit = responsiveness._Audit(live, 0, 5)
    likes, dislikes = np.zeros((2, N_USERS + 1, N_ITEMS + 1))
    user, item, kind, _ = small_edges()
    likes[user[kind == LIKE], item[kind == LIKE]] = 1.0
    dislikes[user[kind != LIKE], item[kind != LIKE]] = 1.0
    alike = likes.T @ likes / np.sqrt(np.outer(likes.sum(0), likes.sum(0)).clip(min=1))
    for one, other in ((3, 7), (20, 11), (40, 30)):
        seen = likes[one] + dislikes[one] > 0
        wanted = np.where(seen | (np.arange(N_ITEMS + 1) == other), 0.0, alike[other])
        found = audit._neighbours(one, other)
        assert alike[other][found] == pytest.approx(np.sort(wanted)[::-1][: len(found)])
        assert len(found) == min(responsiveness.N_NEIGHBOURS, np.count_nonzero(wanted))
    live.close()


@pytest.mark.parametrize(
    ("lost", "wanted"),
    [
        ((), (True, True, True)),
        (("undislike",), (True, False, False)),
        (("unlike",), (True, False, False)),
        (("dislike", "undislike"), (False, True, True)),
    ],
)
def test_an_event_that_is_lost_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: tuple[str, ...], wanted: tuple[bool, ...]
) -> None:
    live = begin(tmp_path / "state")
    audit = responsiveness._Audit(live, 0, 5)
    tell = audit._tell

    def tell_some(user: int, item: int, kind: str) -> None:
        if kind not in lost:
            tell(user, item, kind)

    monkeypatch.setattr(audit, "_tell", tell_some)
    found = audit._probe(3, np.random.default_rng(0))
    assert (found.gone, found.restored, found.exact) == wanted
    assert found.near_before >= found.near_after
    live.close()


def test_what_a_probe_tells_is_a_plain_count(tmp_path: Path) -> None:
    live = begin(tmp_path / "state")
    audit = responsiveness._Audit(live, 0, 5)
    shares = []
    for user in (3, 8, 20, 31):
        scores, shown = audit._ranking(user)
        rng = np.random.default_rng(user)
        item = int(shown[rng.integers(len(shown))])
        near = audit._neighbours(user, item).tolist()
        before = [each for each in np.argsort(-scores, kind="stable").tolist() if each != item]
        audit._tell(user, item, "dislike")
        after_scores, after_shown = audit._ranking(user)
        after = [each for each in np.argsort(-after_scores, kind="stable").tolist() if each != item]
        audit._tell(user, item, "undislike")
        other = audit._another_kind(user, rng)
        near_other = audit._neighbours(user, other)
        audit._tell(user, other, "like")
        liked = audit._ranking(user)[1]
        audit._tell(user, other, "unlike")
        places = [(before.index(each), after.index(each)) for each in near]
        found = audit._probe(user, np.random.default_rng(user))
        assert found.falling == pytest.approx(np.mean([(now > then) + 0.5 * (now == then) for then, now in places]))
        assert found.near_before == sum(then < len(shown) - 1 for then, _ in places)
        assert found.near_after == sum(now < len(shown) - 1 for _, now in places)
        assert found.overlap_dislike == overlap(before[: len(shown) - 1], after_shown.tolist())
        assert found.overlap_like == overlap(shown.tolist(), liked.tolist())
        lists = (shown, liked)
        assert (found.near_like_before, found.near_like_after) == tuple(
            np.isin(each, near_other).sum() for each in lists
        )
        shares.append(found.falling)
    assert len({*shares}) > 1
    live.close()


def test_a_like_of_another_kind_is_one_that_some_know(tmp_path: Path) -> None:
    """Users 1 to 6 like items 1 to 5, users 7 to 12 like some of items 6 to 10, which ever fewer of them know."""
    pairs = [(u, i) for u in range(1, 7) for i in range(1, 6) if u + i != 7]
    pairs += [(u, i) for i, known in zip(range(6, 11), (6, 5, 4, 3, 1), strict=True) for u in range(7, 7 + known)]
    user, item = (np.array(each) for each in zip(*pairs, strict=True))
    edges = user, item, np.full(len(pairs), LIKE, dtype=np.int8), np.arange(len(pairs))
    names = [f"u{n}" for n in range(1, 13)], [f"i{n}" for n in range(1, 11)]
    live = OnlineRecommender.begin(tmp_path / "state", make_learner("Pop"), *names, edges)
    audit = responsiveness._Audit(live, 0, 5)
    chosen = {audit._another_kind(2, np.random.default_rng(seed)) for seed in range(30)}
    # item 5 is of its own kind, one like of item 10 says little, and items 8 and 9 are the less popular half
    assert chosen == {6, 7}
    live.close()


def test_a_user_with_an_edge_to_every_item_is_not_probed(write_inter: Callable[..., Path], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", f"i{i}", rng.choice([1, -1])) for u in range(6) for i in range(9) if not u or rng.random() < 0.5]
    folder = write_inter("full", ["user_id:token", "item_id:token", "sign:float"], rows)
    (folder / "full.yaml").write_text("load_col: {inter: [user_id, item_id, sign]}\n")
    all_known = {"eval_args": {"split": {"RS": [1, 0, 0]}, "order": "RO", "group_by": "user", "mode": "full"}}
    given = {**QUICK, **all_known, "data_path": str(tmp_path / "dataset"), "valid_metric": "NDCG@5"}
    with_like = {user for user, _, sign in rows if sign > 0}
    assert "u0" in with_like
    found = respond("Pop", "full", overrides=given, n_users=6, k=5)
    assert found["summary"]["users"] == len(with_like) - 1


def test_the_means_are_those_of_the_probes(toy: str) -> None:
    found = respond("SSF", toy, overrides=QUICK, n_users=8, k=5)
    probes, summary = found["probes"], found["summary"]
    for name in ("near_before", "near_after", "falling", "overlap_dislike"):
        assert summary[name] == pytest.approx(np.mean([each[name] for each in probes]))
    before, after = (sum(each[name] for each in probes) for name in ("near_before", "near_after"))
    assert summary["prevented"] == pytest.approx(1 - after / before)


def test_the_command_prints_a_table_keeps_rows_and_goes_on(
    toy: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["respond", "-m", "SSF,Pop", "-d", toy, "--users", "4", "--k", "5", "state=ERROR", "topk=[5]"]

    def outcome(*more: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            cli.main([*words, *more])
        output = capsys.readouterr()
        return int(exit_.value.code or 0), output.out, output.err

    status, out, err = outcome()
    assert status == 0, err
    assert "to the bit" in out
    heads = [line.split()[0] for line in out.splitlines() if line.strip()]
    assert [head for head in heads if head in ("SSF", "Pop")] == ["SSF", "Pop"]
    rows = [json.loads(line) for line in Path(f"runs/respond/{toy}.jsonl").read_text().splitlines()]
    assert [row["model"] for row in rows] == ["SSF", "Pop"]
    kept = json.loads(Path(f"runs/respond/Pop-{toy}.json").read_text())
    monkeypatch.setattr("recbole_signed.experiments.analysis.responsiveness.respond", None)  # nothing is audited again
    status, out, _ = outcome("--json")
    assert status == 0
    assert json.loads(out)["audits"][1] == kept
    assert {**rows[1], "probes": kept["probes"]} == kept


def test_what_cannot_be_audited_is_refused(toy: str) -> None:
    with pytest.raises(UsageError):
        respond("GFCF", toy, overrides=QUICK)
    with pytest.raises(UsageError, match="n_users is 0"):
        respond("SSF", toy, overrides=QUICK, n_users=0)
    named = asked_models(["all"], toy, has_learner)
    assert {"SSF", "SSFL", "SSFT", "SignedEASE", "SignediALS", "Pop", "LightGCN", "BPR", "SiReN"} <= set(named)
    assert not {"EASE", "GFCF", "SGFCF", "ItemKNN", "Random"} & set(named)


def test_what_cannot_be_audited_is_refused_before_anything_is_trained(
    toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recbole_signed.experiments.analysis.responsiveness.respond", None)
    with pytest.raises(UsageError, match="GFCF"):
        respond_all({"SSF": {}, "GFCF": {}}, toy, tmp_path)
    with pytest.raises(UsageError, match="'SSFLL'; did you mean 'SSFL'"):
        asked_models(["SSF", "SSFLL"], toy, has_learner)
