"""From a RecBole run to a model that follows events, and back after a crash."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prepared import prepared
from recbole.utils import get_model, get_trainer
from refusals import check_refused
from small_recommender import event
from state_hashes import state_hash
from waiting import held_calls

from recbole_signed.errors import UsageError
from recbole_signed.live import OnlineTrainer
from recbole_signed.live.learners.ranking import neighbourhoods


def scores(trainer: OnlineTrainer, user: str) -> torch.Tensor:
    number = int(trainer.state.users.ids([user])[0])
    return trainer.learner.scores(trainer.state.edges, np.array([number]))[0]


def test_online_evaluation_is_that_of_the_trained_model(start: Callable[..., Any]) -> None:
    """With the personal verdict where the model has it; other models have it under a stream, and where it is set."""
    trainer = start()
    own = get_trainer(trainer.config["MODEL_TYPE"], trainer.config["model"])
    assert isinstance(trainer, own), "what trains the model is its own trainer, by the key of the yaml another one too"
    assert isinstance(trainer, OnlineTrainer)
    assert trainer.best_valid_result  # it has trained and validated
    trainer.learner.dislike_strength = getattr(trainer.model, "dislike_strength", 0.0)
    live = trainer.evaluate(trainer.parts[2], show_progress=False)
    trainer.learner, kept = None, trainer.learner
    trained = trainer.evaluate(trainer.parts[2], load_best_model=False, show_progress=False)
    trainer.learner = kept
    assert live == pytest.approx(trained, abs=1e-4)


def test_after_a_dislike_near_neighbours_fall_and_undislike_leaves_no_trace(start: Callable[..., Any]) -> None:
    """In every model's default configuration, whatever a dislike means to the model itself."""
    trainer = start()
    fallen, risen = [], []
    for number, user in enumerate(("u1", "u4", "u9", "u16", "u25", "u36")):
        before = trainer.recommend(user, 100)
        disliked = before[0][0]
        index = int(trainer.state.items.ids([disliked])[0])
        near = neighbourhoods(trainer.state.edges, np.array([index])).items
        near = near[~np.isin(near, trainer.state.edges.of_user(trainer.state.users.id_of(user)).ids)][:10]
        names = set(trainer.state.items.tokens(near.tolist()))
        trainer.update([event(2 * number, user, disliked, "dislike")])
        after = trainer.recommend(user, 100)
        assert disliked not in dict(after), "it is gone at once"
        ranks = [[name for name, _ in each if name != disliked] for each in (before, after)]
        assert sorted(ranks[0]) == sorted(ranks[1])
        seen = names & set(ranks[0])
        fallen += [ranks[1].index(name) - ranks[0].index(name) for name in seen]
        size = max(abs(value) for _, value in before)
        risen += [(dict(after)[name] - dict(before)[name]) / size for name in seen]
        trainer.update([event(2 * number + 1, user, disliked, "undislike")])
        again = trainer.recommend(user, 100)
        assert [name for name, _ in again] == [name for name, _ in before]
        np.testing.assert_allclose(*([value for _, value in each] for each in (again, before)), rtol=1e-4, atol=1e-6)
    assert np.mean(fallen) > 0  # of a hardly trained model's thirty free items
    assert max(risen) <= 2e-3  # those that gain a place have a score that others fell below; a trend follows all events


def test_new_users_and_items_are_known_from_their_first_event(start: Callable[..., Any]) -> None:
    trainer = start()
    unknown = trainer.recommend("newcomer", 10)
    taken = trainer.update([event(1, "newcomer", "i3", "like"), event(2, "u2", "brand new", "like")])
    assert taken.update.n_new == 2
    assert trainer.recommend("newcomer", 10) != unknown
    assert "i3" not in dict(trainer.recommend("newcomer", 100))
    trainer.update([event(3 + n, f"u{n}", "brand new", "like") for n in range(5, 15)])
    assert "brand new" in dict(trainer.recommend("newcomer", 100))
    ranked = trainer.recommend("newcomer", 100)
    assert np.isfinite(list(dict(ranked).values())).all()
    few = trainer.recommend("newcomer", 2, include_only=[item for item, _ in ranked[::9]])
    assert [item for item, _ in few] == [item for item, _ in ranked[::9]][:2]
    np.testing.assert_allclose([score for _, score in few], [score for _, score in ranked[::9]][:2], rtol=1e-4)


def test_what_comes_while_a_refit_runs_is_in_the_new_version(start: Callable[..., Any]) -> None:
    trainer = start()
    future = trainer.refit()
    trainer.update([event(n, f"u{n}", f"i{n + 1}", "dislike") for n in range(1, 20)])
    future.result(timeout=60)
    after = {user: scores(trainer, user) for user in ("u1", "u7", "u33")}
    trainer.refit().result(timeout=60)
    for user, values in after.items():
        assert torch.corrcoef(torch.stack([values[1:], scores(trainer, user)[1:]]))[0, 1] > 0.8
    assert trainer.refresh().staleness < 0.2


@pytest.mark.parametrize(
    ("start", "how"),
    [("SSF", "refresh"), ("SSF", "fit"), ("SignediALS", "refresh"), ("LightGCN", "refresh")],
    indirect=["start"],
)
def test_events_during_a_renewal_are_in_force_at_once_and_after_it(
    start: Callable[..., Any], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = start()
    copied, go_on = held_calls(monkeypatch, type(trainer.learner), how)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(trainer.refresh) if how == "refresh" else trainer.refit()
        assert copied.wait(60)
        best = trainer.recommend("u1", 1)[0][0]
        trainer.update([event(1, "u1", best, "dislike"), *(event(n, f"u{n}", "new", "like") for n in range(2, 9))])
        trainer.update([event(20, "newcomer", "i3", "like")])
        for _ in range(2):
            assert best not in dict(trainer.recommend("u1", 100))
            assert "new" in dict(trainer.recommend("u1", 100))
            assert "i3" not in dict(trainer.recommend("newcomer", 100))
            go_on.set()
            future.result(timeout=60)
    found = scores(trainer, "newcomer")
    trainer.learner.attach(trainer.state.edges)  # nothing is left to bring
    torch.testing.assert_close(found, scores(trainer, "newcomer"))


def test_a_state_goes_on_where_it_was(start: Callable[..., Any]) -> None:
    trainer = start()
    trainer.update([event(1, "u1", "i5", "dislike"), event(2, "someone", "i6", "like")])
    trainer.snapshot()
    trainer.update([event(3, "someone", "i7", "like"), event(3, "someone", "i7", "like")])
    wanted = {user: scores(trainer, user) for user in ("u1", "someone", "u20")}
    state = state_hash(trainer.state)
    trainer.close()
    again = start()
    assert state_hash(again.state) == state
    for user, values in wanted.items():
        torch.testing.assert_close(scores(again, user), values)


def test_times_that_count_from_nought_are_milliseconds_once_they_are_converted(
    write_inter: Callable[..., Path], signed_rows: list[tuple[int, ...]], tmp_path: Path, quick: dict[str, Any]
) -> None:
    """As those of ``convert yambda`` and ``convert vk-lsvd``: milliseconds that have the size of seconds."""
    rows = [(f"u{user}", f"i{item}", sign, 10_000 * place) for place, (user, item, sign, _) in enumerate(signed_rows)]
    write_inter("stream", ["user_id:token", "item_id:token", "sign:float", "timestamp:float"], rows)
    given = {**quick, "auto": False, "trainer": "OnlineTrainer", "checkpoint_dir": str(tmp_path / "saved")}
    given |= {"data_path": str(tmp_path / "dataset"), "online_state": str(tmp_path / "state")}
    settings, _, parts = prepared("stream", "SSF", **given)
    trainer = OnlineTrainer(settings, get_model("SSF")(settings, parts[0]._dataset))
    trainer.fit(parts[0], parts[1], saved=False, show_progress=False)
    newest = trainer.state.edges.export().timestamp.max()
    assert 10_000_000 < newest <= 10_000_000 * len(rows)
    trainer.close()


def test_an_unknown_trainer_is_refused(start: Callable[..., Any]) -> None:
    check_refused("no trainer 'Online' to choose", start, trainer="Online")


def test_neutral_edges_that_a_live_learner_does_not_know_are_refused(
    prepare_model: Callable[..., Any], tmp_path: Path
) -> None:
    for name in ("SSF", "SignedEASE"):
        model, config, parts = prepare_model(name, neutral_weight=0.3, online_state=str(tmp_path / name))
        with pytest.raises(UsageError, match=f"neutral_weight is 0.3, but the live learner of {name} knows likes"):
            OnlineTrainer(config, model).start(parts[0]._dataset)


@pytest.mark.parametrize("name", ["NeuMF", "SSF"])
def test_what_can_not_go_on_learning_is_refused_before_the_training(
    name: str, prepare_model: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {"no such key": 1} if name == "SSF" else {}
    model, config, parts = prepare_model(name, online_settings=wrong, online_state=str(tmp_path / "state"))
    trainer = OnlineTrainer(config, model)
    trained: list[Any] = []
    base = get_trainer(config["MODEL_TYPE"], name)
    monkeypatch.setattr(base, "fit", lambda *args, **kwargs: trained.append(args))
    check_refused("NeuMF can't go on learning" if name == "NeuMF" else "'no such key'", trainer.fit, parts[0], parts[1])
    assert not trained
    assert not (tmp_path / "state").exists()
