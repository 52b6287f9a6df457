"""A trainer that starts again on a state that has moved on."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faults import no_room_at
from refusals import check_refused
from small_recommender import NOW, event
from state_hashes import state_hash

from recbole_signed import files
from recbole_signed.errors import UsageError
from recbole_signed.files import DamagedError
from recbole_signed.live import Event, OnlineTrainer
from recbole_signed.live.store.versions import Versions


@pytest.fixture(params=["SSF", "BPR"])
def start(request: pytest.FixtureRequest, starts: Callable[..., OnlineTrainer]) -> Callable[..., OnlineTrainer]:
    """Train and go online; a second call goes on from the same folder, with rows appended to the data set."""
    return partial(starts, request.param)


@pytest.mark.parametrize("saved", [True, False])
def test_a_forgotten_training_user_does_not_prevent_a_restart(start: Callable[..., Any], saved: bool) -> None:
    trainer = start()
    trainer.update([event(1, "u1", "", "forget_user")])
    if saved:
        trainer.snapshot()
    state, ranking = state_hash(trainer.state), trainer.recommend("u2", 10)
    trainer.close()
    again = start()
    assert state_hash(again.state) == state
    assert "u1" not in again.state.users
    assert [item for item, _ in again.recommend("u2", 10)] == [item for item, _ in ranking]
    assert again.recommend("u1", 5) == again.recommend("nobody", 5)
    assert again.evaluate(again.parts[2], show_progress=False)


def test_new_parameters_take_effect_at_the_next_refit_also_after_a_rollback(start: Callable[..., Any]) -> None:
    trainer = start()
    key = "rank" if trainer.model_name == "SSF" else "embedding_size"
    assert trainer.parameters == {"in_force": trainer.learner.parameters(), "at_next_refit": None}
    first = trainer.snapshot()
    trainer.versions.pin(first)
    trainer.close()
    again = start(**{key: 5})
    found = again.parameters
    assert (found["in_force"][key], found["at_next_refit"][key]) == (8, 5)
    again.refresh()
    again.update([event(1, "u1", "i5", "dislike")])
    again.refit().result(timeout=60)
    assert (again.parameters["in_force"][key], again.parameters["at_next_refit"]) == (5, None)
    width = again.learner.items.base if key == "rank" else again.learner.live.items.base
    assert width.shape[1] == 5
    last = again.snapshot()
    again.activate(first)
    assert (again.parameters["in_force"][key], again.parameters["at_next_refit"][key]) == (8, 5)
    again.activate(last)
    assert again.parameters["at_next_refit"] is None
    again.activate(first)
    again.refit().result(timeout=60)
    assert (again.parameters["in_force"][key], again.parameters["at_next_refit"]) == (5, None)
    again.snapshot()
    again.close()
    assert start(**{key: 5}).parameters == {"in_force": found["at_next_refit"], "at_next_refit": None}


@pytest.fixture
def start_with_features(start: Callable[..., OnlineTrainer], tmp_path: Path) -> Callable[..., OnlineTrainer]:
    """Go online with items of a group and a shape and users of a country and an age; appended items are of group g1."""
    folder = tmp_path / "dataset" / "stream"
    folder.mkdir(parents=True, exist_ok=True)
    items = [*(f"i{n}\tg{n % 2}\ts{n % 3}" for n in range(50)), *(f"appended item {n}\tg1\ts1" for n in range(2))]
    users = [f"u{n}\tc{n % 2}\ta{n % 3}" for n in range(60)]
    for suffix, head, rows in (
        ("item", "group:token\tshape:token", items),
        ("user", "country:token\tage:token", users),
    ):
        (folder / f"stream.{suffix}").write_text("\n".join([f"{suffix}_id:token\t{head}", *rows]) + "\n")
    return start


def features_of(trainer: OnlineTrainer, side: str, token: str) -> list[tuple[str, str]]:
    """Return column and value of each feature that the model in force has of an item or user, but what all have."""
    with trainer.reading() as (state, learner):
        return named_features(learner, side, (state.items if side == "item" else state.users).id_of(token))


def named_features(learner: Any, side: str, number: int) -> list[tuple[str, str]]:
    matrix, names = learner.features.matrices[side], learner.features.spaces[side].names
    own = matrix.indices[slice(*matrix.indptr[number : number + 2])]
    return [names[place] for place in sorted(own.tolist()) if names[place][0]]


@pytest.mark.parametrize("start", ["SSF"], indirect=True)
def test_other_columns_of_features_take_effect_at_the_next_refit(start_with_features: Callable[..., Any]) -> None:
    start_with_features(features={"item": ["group"]}).close()
    again = start_with_features(features={"item": ["group", "shape"]})
    assert features_of(again, "item", "i4") == [("group", "g0")]
    assert again.parameters["at_next_refit"] is not None
    again.refit().result(timeout=60)
    assert features_of(again, "item", "i4") == [("group", "g0"), ("shape", "s1")]
    again.snapshot()
    again.close()
    third = start_with_features(features={"item": ["group", "shape"]})
    assert third.parameters["at_next_refit"] is None
    assert features_of(third, "item", "i4") == [("group", "g0"), ("shape", "s1")]


@pytest.mark.parametrize("start", ["SSF"], indirect=True)
def test_an_item_of_the_stream_gets_no_features_of_an_appended_one(start_with_features: Callable[..., Any]) -> None:
    features = {"item": ["group"]}
    trainer = start_with_features(features=features)
    trainer.update([event(n, f"u{n}", "streamed item", "like") for n in range(1, 5)])
    trainer.close()
    later = [(f"u{n}", f"appended item {n % 2}", 1, 1_600_900_010 + n) for n in range(1, 6)]
    again = start_with_features(later, features=features, rank=5)
    again.refit().result(timeout=60)
    assert features_of(again, "item", "streamed item") == []
    assert features_of(again, "item", "i4") == [("group", "g0")]


@pytest.mark.parametrize("start", ["SSF"], indirect=True)
@pytest.mark.parametrize("when", ["before the restart", "after it"])
def test_other_columns_bring_nothing_of_forgotten_users(start_with_features: Callable[..., Any], when: str) -> None:
    trainer = start_with_features(features={"user": ["country"]})
    number = trainer.state.users.id_of("u7")
    if when == "before the restart":
        trainer.forget("u7")
    trainer.close()
    again = start_with_features(features={"user": ["country", "age"]})
    if when == "after it":
        again.forget("u7")
    again.refit().result(timeout=60)
    assert features_of(again, "user", "u8") == [("country", "c0"), ("age", "a2")]
    with again.reading() as (_, learner):
        assert named_features(learner, "user", number) == []


@pytest.mark.parametrize("start", ["SSF"], indirect=True)
def test_a_refit_of_new_parameters_learns_from_announced_features(start_with_features: Callable[..., Any]) -> None:
    given: dict[str, Any] = {"features": {"item": ["group"]}, "predict_items": 1.0}
    trainer = start_with_features(**given)
    groups = [Event(f"a{n}", "", f"i{n}", "item", NOW + n, features='{"group": "g2"}') for n in range(12)]
    trainer.update(groups)
    trainer.close()
    again = start_with_features(rank=5, **given)
    again.refit().result(timeout=60)
    found = again.learner.features.item_map
    again.refit().result(timeout=60)  # of the parameters in force
    np.testing.assert_allclose(found, again.learner.features.item_map, atol=1e-5)


def test_a_data_set_with_appended_users_and_items_resumes(start: Callable[..., Any]) -> None:
    trainer = start()
    trainer.update([event(1, "from the stream", "i3", "like"), event(2, "u2", "streamed item", "dislike")])
    trainer.snapshot()
    ranking = trainer.recommend("u7", 10)
    trainer.close()
    later = [("appended", "i4", 1, 1_600_900_000 + n) for n in range(1)]
    later += [(f"u{n}", f"appended item {n % 2}", 1, 1_600_900_010 + n) for n in range(1, 6)]
    again = start(later)
    assert [item for item, _ in again.recommend("u7", 10)] == [item for item, _ in ranking]
    found = again.evaluate(again.parts[2], show_progress=False)
    assert all(0 <= value <= 1 for value in found.values())
    dataset = again.parts[2]._dataset
    number = dataset.token2id("user_id", "u7")
    from recbole_signed.live.trainer import LiveModel

    scores = LiveModel(again, dataset, torch.device("cpu")).full_sort_predict({"user_id": torch.tensor([number])})[0]
    assert scores.shape == (dataset.item_num,)
    direct = dict(again.recommend("u7", 100))
    for token, value in direct.items():
        if token != "streamed item":
            assert float(scores[dataset.token2id("item_id", token)]) == pytest.approx(value, abs=1e-5)
    again.update([event(3, "appended", "appended item 0", "like")])
    assert "appended item 0" not in dict(again.recommend("appended", 100))


@pytest.mark.parametrize("start", ["SSF"], indirect=True)
def test_limits_of_the_state_come_from_the_configuration(start: Callable[..., Any]) -> None:
    trainer = start(online_limits={"grace": 0, "max_batch": 2, "max_id_length": 9})
    check_refused("10 characters, and 9 are accepted", trainer.update, [event(9, "0123456789", "i1", "like")])
    check_refused("max_batch is 2", trainer.update, [event(n, "u1", f"i{n}", "like") for n in range(3)])
    trainer.close()
    check_refused("'online_limits' has an unknown key 'grase'; did you mean 'grace'", start, online_limits={"grase": 0})


def test_other_tokens_in_the_place_of_known_ones_are_still_refused(start: Callable[..., Any]) -> None:
    start().close()
    check_refused("another vocabulary", start, before=[("someone else", "i1", 1, 1_600_000_000)])


ABOUT = {
    "applied_seq": 7, "n_users": 3, "n_items": 4, "users_hash": "aa", "items_hash": "bb", "model": "SSF",
    "data": "", "meta": {"k": 2**63},
}  # fmt: skip
TABLE = np.arange(6, dtype=np.float32).reshape(2, 3)
TENSORS = {"v": TABLE, "turned": TABLE.T, "strided": TABLE[:, ::2], "empty": np.zeros((0, 4)), "one": np.array(3.5)}
EDGES = {"item": np.arange(5, dtype=np.int32)}


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    return Versions(tmp_path / "versions")


def save(versions: Versions, n: int = 1, **about: Any) -> list[str]:
    return [versions.save(TENSORS, EDGES, {**ABOUT, **about}) for _ in range(n)]


def test_a_version_comes_back_as_it_was_saved(versions: Versions) -> None:
    assert save(versions) == ["v000001"]
    snapshot = versions.load("v000001")
    for name, wanted in TENSORS.items():
        np.testing.assert_array_equal(snapshot.tensors[name], wanted)
        assert snapshot.tensors[name].dtype == wanted.dtype
        assert snapshot.tensors[name].flags.writeable
    np.testing.assert_array_equal(snapshot.edges["item"], EDGES["item"])
    assert {"data": "", **vars(snapshot)}.items() >= ABOUT.items()
    assert versions.current() == "v000001"
    for file in versions.folder.rglob("*"):
        assert file.suffix in (".safetensors", ".json", "")  # no pickle


@pytest.mark.parametrize("file", ["model.safetensors", "edges.safetensors", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_damage_is_found(versions: Versions, file: str, damage: str) -> None:
    save(versions)
    path = versions.folder / "v000001" / file
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        for place in range(0, len(content) - 1, 11):
            changed = bytearray(content)
            if damage == "flip":
                changed[place] ^= 4
            path.write_bytes(changed if damage == "flip" else content[:place])
            with pytest.raises(DamagedError, match="is damaged"):
                versions.load("v000001")
        path.write_bytes(content)
        versions.load("v000001")
        path.write_bytes(content[:-2])
    with pytest.raises(DamagedError, match=r"is damaged|can't be read"):
        versions.load("v000001")
    assert bool(versions.describe()[0].damage) == (file == "manifest.json")


def test_a_newer_format_is_refused_and_is_no_damage(versions: Versions, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("recbole_signed.live.store.versions.FORMAT", 9)
        save(versions)
    with pytest.raises(UsageError, match="has format 9") as error:
        versions.load("v000001")
    assert not isinstance(error.value, DamagedError)


def test_pinned_and_current_versions_stay(versions: Versions) -> None:
    names = save(versions, 6)
    versions.pin(names[1])
    versions.rollback(names[2])
    assert versions.collect(2) == [names[0], names[3]]
    assert versions.names() == [names[1], names[2], names[4], names[5]]
    listed = {each.name: (each.current, each.pinned) for each in versions.describe()}
    assert (listed[names[1]], listed[names[2]]) == ((False, True), (True, False))
    versions.pin(names[1], pinned=False)
    assert versions.collect(1) == [names[1], names[4]]
    check_refused("At least 1 version", versions.collect, 0)


def test_going_back_starts_from_there_and_the_next_version_gets_a_new_name(versions: Versions) -> None:
    names = save(versions, 4)
    versions.rollback(names[1])
    assert versions.candidates() == [names[1], names[0]]
    assert save(versions) == ["v000005"]
    assert versions.candidates() == ["v000005", *names[::-1]]


def test_going_back_to_what_is_not_there_or_damaged(versions: Versions) -> None:
    check_refused("there is none", versions.rollback, "v000001")
    names = save(versions, 2)
    check_refused("no version 'v2'", versions.rollback, "v2")
    path = versions.folder / names[0] / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    check_refused("is damaged", versions.rollback, names[0])
    assert versions.current() == names[1]


def test_a_pointer_that_moves_while_it_is_checked_is_whole(versions: Versions, monkeypatch: pytest.MonkeyPatch) -> None:
    (first,) = save(versions, 1)
    names = Versions.names

    def later(self: Versions) -> list[str]:
        monkeypatch.setattr(Versions, "names", names)
        save(versions, 1)
        versions.remove(first)
        return names(self)

    monkeypatch.setattr(Versions, "names", later)
    assert not versions.pointer_is_damaged()
    assert versions.names() == [versions.current()] != [first]


def test_a_lost_or_damaged_pointer_means_the_newest(versions: Versions) -> None:
    names = save(versions, 2)
    for content in (b"", b"\xff\xfe", b"../../etc"):
        (versions.folder / "CURRENT").write_bytes(content)
        assert versions.current() is None
        assert versions.candidates() == names[::-1]
    (versions.folder / "CURRENT").unlink()
    assert versions.candidates() == names[::-1]


def test_a_folder_that_takes_nothing_and_meta_that_is_no_json(versions: Versions) -> None:
    with pytest.raises(ValueError, match="JSON"):
        save(versions, meta={"loss": float("nan")})
    assert versions.names() == []
    save(versions)
    (versions.folder / "v000002.tmp").mkdir()
    (versions.folder / "v000000.trash").mkdir()
    (versions.folder / "CURRENT.tmp").touch()
    versions.clean()
    assert sorted(each.name for each in versions.folder.iterdir()) == ["CURRENT", "v000001"]


@pytest.mark.parametrize("last_look", ["names", "manifest"])
def test_a_vanishing_version_is_left_out(versions: Versions, monkeypatch: pytest.MonkeyPatch, last_look: str) -> None:
    first, second = save(versions, 2)
    names, manifest = versions.names, versions.manifest

    def at_names() -> list[str]:
        found = names()
        versions.remove(first)
        return found

    def at_manifest(name: str) -> dict[str, Any]:
        if name == first:
            versions.remove(first)
        return manifest(name)

    if last_look == "names":
        monkeypatch.setattr(versions, "names", at_names)
    else:
        monkeypatch.setattr(versions, "manifest", at_manifest)
    assert [each.name for each in versions.describe()] == [second]


@pytest.mark.parametrize("step", ["snapshot:tensors", "snapshot:written", "CURRENT:written"])
def test_a_full_disk_leaves_versions_as_is(versions: Versions, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    save(versions, 2)
    with monkeypatch.context() as patch:
        patch.setattr(files, "reached", no_room_at(step))
        check_refused("Saving version v000003 failed: No space left", save, versions)
    assert versions.current() == "v000002"
    assert not list(versions.folder.rglob("*.tmp"))
    versions.load("v000002")
    name = save(versions)[0]
    assert versions.current() == name


def test_a_folder_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "versions").write_text("in the way")
    check_refused("Saving version v000001 failed", save, Versions(tmp_path / "versions"))


@pytest.mark.parametrize(("there", "pinned"), [(True, True), (True, False), (False, True), (False, False)])
def test_a_renewed_version_takes_its_place_after_a_crash(versions: Versions, there: bool, pinned: bool) -> None:
    """A version is written again beside the old one, marked as pinned, and the old one is then thrown away."""
    save(versions, 2)
    old = versions.folder / "v000001"
    renewed = old.with_name("v000001.renewed")
    shutil.copytree(old, renewed)
    (renewed / "new").touch()
    if pinned:
        (renewed / "PINNED").touch()
    if not there:
        shutil.rmtree(old)
    versions.clean()
    assert not renewed.exists()
    assert versions.names() == (["v000001", "v000002"] if there or pinned else ["v000002"])
    assert (old / "new").exists() == (pinned and not there)
