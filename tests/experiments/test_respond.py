"""The command ``respond``: what an event does to a list, and what undoes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import printed
from hypothesis import given
from hypothesis import strategies as st
from refusals import check_refused
from small_recommender import N_ITEMS, N_USERS, begin, small_edges

from recbole_signed import run
from recbole_signed.live import LIKE, Event, OnlineRecommender
from recbole_signed.live.learners import make_learner
from recbole_signed.live.respond import respond, responsiveness
from recbole_signed.live.respond.responsiveness import has_learner, overlap, respond_all
from recbole_signed.live.respond.responsiveness_table import wishes_table
from recbole_signed.runs.spec import asked_models

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
    again = respond(model, toy, overrides=QUICK, n_users=6, k=5)
    for one, other in zip(found["probes"], again["probes"], strict=True):
        assert {**one, "milliseconds": 0} == {**other, "milliseconds": 0}


def test_less_and_more_of_a_feature_move_its_items_and_are_undone(toy: str, tmp_path: Path) -> None:
    """Whatever strength a fit chose for dislikes."""
    data = tmp_path / "atomic_files" / toy
    (data / "dataset.json").unlink()
    items = sorted({line.split("\t")[1] for line in (data / f"{toy}.inter").read_text().splitlines()[1:]})
    rows = [f"{item}\t{'a b' if place % 2 else 'b'}" for place, item in enumerate(items)]
    (data / f"{toy}.item").write_text("\n".join(["item_id:token\tkind:token_seq", *rows]) + "\n")
    overrides = {**QUICK, "online_settings": {"dislike_strength": 0}}
    found = respond("Pop", toy, overrides=overrides, n_users=8, k=5, feature="kind")
    wishes = found["wishes"]
    assert (wishes["users"], wishes["undone"]) == (8, 1)
    assert wishes["less"][0] == 5  # of b, which all items have
    assert wishes["more"][1] > wishes["more"][0]
    table = wishes_table([found, {**found, "wishes": None}])
    assert table is not None
    assert table.title == f"Less and more of kind on {toy}, 8 users, lists of 5"
    assert len(table.sections[0].lines) == 1


def test_a_dislike_bites_where_its_strength_lets_it(toy: str) -> None:
    """Popularity has the same list for everybody, but for what is hidden; with the personal verdict it falls, too."""
    still = respond("Pop", toy, overrides={**QUICK, "online_settings": {"dislike_strength": 0}}, n_users=20, k=5)
    assert still["settings"]["dislike_strength"] == 0
    found = still["summary"]
    assert (found["falling"], found["more_fall"], found["overlap_dislike"]) == (0.5, 0.5, pytest.approx(1))
    assert found["prevented"] == found["prevented_3"] == found["cluster_lost"] == found["far_lost"] == 0
    assert found["left_likes_10"] is None  # of nothing
    for model in ("SSF", "Pop"):
        bites = respond(model, toy, overrides={**QUICK, "dislike_strength": 0.7}, n_users=20, k=5)["summary"]
        assert bites["prevented"] > 0.05  # 5 of some 25 items are shown, 10 of which count as similar
        assert bites["falling"] > 0.55
        assert bites["more_fall"] > 0.55


def test_the_metrics_are_those_of_what_the_live_model_ranks(toy: str) -> None:
    """The strength of the live learner is in them; a trained Pop ranks without."""
    without, with_ = (
        respond("Pop", toy, overrides={**QUICK, "online_settings": {"dislike_strength": each}}, n_users=1, k=5)["test"]
        for each in (0, 1)
    )
    plain = run("Pop", toy, overrides={**QUICK, "metrics": ["NDCG", "Recall", "DislikeRecall", "SignAUC"]}).test
    assert without == {name: pytest.approx(value, abs=1e-4) for name, value in plain.items()}
    assert set(without) == {"ndcg@5", "recall@5", "dislikerecall@5", "signauc"}
    assert with_["ndcg@5"] != without["ndcg@5"]


def two_kinds(folder: Path, model: str = "Pop", **settings: Any) -> OnlineRecommender:
    """Begin a state whose user u1 likes item 1, and is shown items 2, 3 and 4 by popularity.

    Users 2 to 7 like the items 2 to 4, users 8 to 11 the items 5 to 8, and one of these item 1; of the items 9 to 28
    two users like each.
    """
    pairs = [(u, i) for u in range(2, 8) for i in (2, 3, 4)] + [(u, i) for u in range(8, 12) for i in range(5, 9)]
    pairs += [(u, i) for u in (12, 13) for i in range(9, 29)] + [(1, 1), (8, 1)]
    user, item = (np.array(each) for each in zip(*pairs, strict=True))
    edges = user, item, np.full(len(pairs), LIKE, dtype=np.int8), np.arange(1, len(pairs) + 1)
    names = [f"u{n}" for n in range(1, 14)], [f"i{n}" for n in range(1, 29)]
    return OnlineRecommender.begin(folder, make_learner(model, settings), *names, edges)


@pytest.mark.parametrize("strength", [0, 0.7])
def test_probes_worked_by_hand(tmp_path: Path, strength: float) -> None:
    """One of the items 2 to 4 is disliked, and the other two are similar.

    With strength .7 these have 6 - .7 (6 - 2) = 3.2, below the 4 likes of the items 5 to 8: both leave the list for
    two of those, of which the first was in the list without the disliked item. It is nearer to the like of item 1 than
    to the dislike. Ten far events hide some of the items 5 to 8, so that one similar item may be shown again.
    """
    live = two_kinds(tmp_path / "state", dislike_strength=strength)
    audit = responsiveness._Audit(live, 0, 3)
    found = audit._probe(1, np.random.default_rng(0))
    bites = bool(strength)
    shown = (2, 0) if bites else (2, 2)
    assert found.gone
    assert found.dislikes == [shown, (0, 0)]  # after three of the kind there are no more
    assert (found.falling, found.more_fall) == ((1.0, 1.0) if bites else (0.5, 0.5))
    assert found.cluster == (2, 2)  # of 28 items all are among the first 50
    assert found.liked == (1, 1)
    assert (found.far_lost, found.overlap_dislike) == (0, 1)
    for (before, after), *more in (found.likes, found.views):
        assert (before, after < before, more) == (2, bites, [])
    assert found.liked_again == (1, 1)  # of two similar items one is liked, and protects the other
    assert found.restored
    assert found.exact
    live.close()


def test_a_like_of_the_kind_is_told_after_the_dislike_and_views_come_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = two_kinds(tmp_path / "state")
    audit = responsiveness._Audit(live, 0, 3)
    tell, told = audit.add_events, []

    def noting(user: int, *events: tuple[np.ndarray, str]) -> None:
        told.extend((kind, items.tolist()) for items, kind in events)
        tell(user, *events)

    monkeypatch.setattr(audit, "add_events", noting)
    audit._probe(1, np.random.default_rng(0))
    kinds = [kind for kind, _ in told]
    one = told[0][1]
    again = [place for place, (kind, items) in enumerate(told) if kind == "like" and items[0] in (2, 3, 4)][-1]
    assert told[again - 1] == ("dislike", one)
    assert kinds[-3:] == ["dislike", "view", "undislike"]
    assert len(told[-2][1]) == 10
    live.close()


def test_neighbours_are_the_items_whose_likes_are_most_alike(tmp_path: Path) -> None:
    live = begin(tmp_path / "state", "Pop")
    audit = responsiveness._Audit(live, 0, 5)
    likes, dislikes = np.zeros((2, N_USERS + 1, N_ITEMS + 1))
    user, item, kind, _ = small_edges()
    likes[user[kind == LIKE], item[kind == LIKE]] = 1.0
    dislikes[user[kind != LIKE], item[kind != LIKE]] = 1.0
    alike = likes.T @ likes / np.sqrt(np.outer(likes.sum(0), likes.sum(0)).clip(min=1))
    for one in (3, 20, 40):
        probe = responsiveness._Probe(audit, one, np.random.default_rng(one))
        other = int(probe.disliked[0])
        seen = likes[one] + dislikes[one] > 0
        wanted = np.where(seen | (np.arange(N_ITEMS + 1) == other), 0.0, alike[other])
        assert alike[other][probe.similar] == pytest.approx(np.sort(wanted)[::-1][: len(probe.similar)])
        assert len(probe.similar) == min(responsiveness.N_NEIGHBOURS, np.count_nonzero(wanted))
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
    tell = audit.add_events

    def tell_some(user: int, *events: tuple[np.ndarray, str]) -> None:
        tell(user, *(each for each in events if each[1] not in lost))

    monkeypatch.setattr(audit, "add_events", tell_some)
    found = audit._probe(3, np.random.default_rng(0))
    assert (found.gone, found.restored, found.exact) == wanted
    live.close()


def test_what_a_probe_tells_is_a_plain_count(tmp_path: Path) -> None:
    live = begin(tmp_path / "state", dislike_strength=0.3)
    audit = responsiveness._Audit(live, 0, 5)
    shares = []
    for user in (3, 8, 20, 31):
        probe = responsiveness._Probe(audit, user, np.random.default_rng(user))
        item, near = int(probe.disliked[0]), probe.similar.tolist()
        before = [each for each in np.argsort(-probe.scores, kind="stable").tolist() if each != item]
        name = audit.names[user], audit.item_names[item]
        live.update([Event("", *name, "dislike", audit.clock + 1)])
        after = [each for each in np.argsort(-audit.scores(user), kind="stable").tolist() if each != item]
        live.update([Event("", *name, "undislike", audit.clock + 2)])
        audit.clock += 2
        found = audit._probe(user, np.random.default_rng(user))
        places = [(before.index(each), after.index(each)) for each in near]
        assert found.falling == pytest.approx(np.mean([(now > then) + 0.5 * (now == then) for then, now in places]))
        fall, rise = sum(now > then for then, now in places), sum(now < then for then, now in places)
        assert found.more_fall == (fall > rise) + 0.5 * (fall == rise)
        assert found.dislikes[0] == (sum(then < 5 for then, _ in places), sum(now < 5 for _, now in places))
        rest = [[each for each in order[:5] if each not in near] for order in (before, after)]
        assert found.overlap_dislike == overlap(*rest)
        lost = {*before[:5]} - {*after[:5]}
        assert found.far_lost == len(lost - {*probe.cluster.tolist()}) / 5
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
    new = np.isfinite(audit.scores(2))
    chosen = {audit.another_kind(2, new, np.random.default_rng(seed)) for seed in range(30)}
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
    strong = {**QUICK, "dislike_strength": 1.0, "dislike_aversion": 4.0}
    found = respond("SSF", toy, overrides=strong, n_users=20, k=10)
    probes, summary = found["probes"], found["summary"]
    for name in ("gone", "falling", "far_lost", "overlap_dislike", "restored", "milliseconds"):
        assert summary[name] == pytest.approx(np.mean([each[name] for each in probes]))
    sums = np.sum([each["dislikes"][0] for each in probes], axis=0)
    assert summary["prevented"] == pytest.approx(1 - sums[1] / sums[0])
    assert (summary["near_before"], summary["near_after"]) == pytest.approx(tuple(sums / 20))
    of_three = np.sum([each["dislikes"][1] for each in probes if len(each["dislikes"]) > 1], axis=0)
    assert summary["prevented_3"] == pytest.approx(1 - of_three[1] / of_three[0])
    liked = np.sum([each["liked_again"] for each in probes if each["liked_again"]], axis=0)
    assert summary["left_liked_again"] == pytest.approx((1 - liked[1] / liked[0]) / summary["prevented"])


def test_the_command_prints_a_table_keeps_rows_and_goes_on(
    toy: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["respond", "-m", "SSF,Pop", "-d", toy, "--users", "4", "--k", "5", "state=ERROR", "topk=[5]"]
    out = printed(capsys, *words)
    assert "to the bit" in out
    heads = [line.split()[0] for line in out.splitlines() if line.strip()]
    assert [head for head in heads if head in ("SSF", "Pop")] == ["SSF", "Pop"]
    assert Path(f"runs/respond/respond-{toy}.png").stat().st_size > 1000
    rows = [json.loads(line) for line in Path(f"runs/respond/{toy}.jsonl").read_text().splitlines()]
    assert [row["model"] for row in rows] == ["SSF", "Pop"]
    kept = json.loads(Path(f"runs/respond/Pop-{toy}.json").read_text())
    monkeypatch.setattr("recbole_signed.live.respond.responsiveness.respond", None)  # nothing is audited again
    assert json.loads(printed(capsys, *words, "--json"))["audits"][1] == kept
    assert {**rows[1], "probes": kept["probes"]} == kept


def test_what_cannot_be_audited_is_refused_before_anything_is_trained(
    toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_refused("GFCF", respond, "GFCF", toy, overrides=QUICK)
    check_refused("n_users is 0", respond, "SSF", toy, overrides=QUICK, n_users=0)
    check_refused("features of items are asked for, but .*item does", respond, "SSF", toy, overrides=QUICK, feature="a")
    named = asked_models(["all"], toy, has_learner)
    assert {"SSF", "SSFL", "SSFT", "SignedEASE", "SignediALS", "Pop", "LightGCN", "BPR", "SiReN"} <= set(named)
    assert not {"EASE", "GFCF", "SGFCF", "ItemKNN", "Random"} & set(named)
    monkeypatch.setattr("recbole_signed.live.respond.responsiveness.respond", None)
    check_refused("GFCF", respond_all, {"SSF": {}, "GFCF": {}}, toy, tmp_path)
    check_refused("'SSFLL'; did you mean 'SSFL'", asked_models, ["SSF", "SSFLL"], toy, has_learner)
