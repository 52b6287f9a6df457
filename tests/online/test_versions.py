"""Versions are whole or not there; they can be listed, pinned, gone back to and thrown away."""

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refusals import check_refused

from recbole_signed import files
from recbole_signed.errors import UsageError
from recbole_signed.files import DamagedError
from recbole_signed.live.store.versions import Versions

ABOUT = {
    "applied_seq": 7, "n_users": 3, "n_items": 4, "users_hash": "aa", "items_hash": "bb", "model": "SSF",
    "data": "", "meta": {"k": 2**63},
}  # fmt: skip
TENSORS = {"v": np.arange(6, dtype=np.float32).reshape(2, 3), "empty": np.zeros((0, 4)), "one": np.array(3.5)}
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


def test_strided_tensors_are_saved_by_value(versions: Versions) -> None:
    table = np.arange(12.0).reshape(3, 4)
    versions.save({"t": table.T, "s": table[::2]}, EDGES, ABOUT)
    snapshot = versions.load("v000001")
    np.testing.assert_array_equal(snapshot.tensors["t"], table.T)
    np.testing.assert_array_equal(snapshot.tensors["s"], table[::2])


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


@pytest.mark.parametrize("last_look", ["names", "manifest"])
def test_a_vanishing_version_is_left_out(versions: Versions, monkeypatch: pytest.MonkeyPatch, last_look: str) -> None:
    first, second = save(versions, 2)
    names, manifest = versions.names, versions._manifest

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
        monkeypatch.setattr(versions, "_manifest", at_manifest)
    assert [each.name for each in versions.describe()] == [second]


@pytest.mark.parametrize("step", ["snapshot:tensors", "snapshot:written", "CURRENT:written"])
def test_a_full_disk_leaves_versions_as_is(versions: Versions, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    save(versions, 2)

    def fail(name: str) -> None:
        if name == step:
            raise OSError(errno.ENOSPC, "No space left on device", "somewhere")

    with monkeypatch.context() as patch:
        patch.setattr(files, "reached", fail)
        check_refused("Saving version v000003 failed: No space left", save, versions)
    assert versions.current() == "v000002"
    assert not list(versions.folder.rglob("*.tmp"))
    versions.load("v000002")
    name = save(versions)[0]
    assert versions.current() == name


def test_a_folder_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "versions").write_text("in the way")
    with pytest.raises(UsageError, match="Saving version v000001 failed"):
        save(Versions(tmp_path / "versions"))


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


def test_a_folder_that_takes_nothing_and_meta_that_is_no_json(versions: Versions) -> None:
    with pytest.raises(ValueError, match="JSON"):
        save(versions, meta={"loss": float("nan")})
    assert versions.names() == []
    json.loads("{}")
    save(versions)
    (versions.folder / "v000002.tmp").mkdir()
    (versions.folder / "v000000.trash").mkdir()
    (versions.folder / "CURRENT.tmp").touch()
    versions.clean()
    assert sorted(each.name for each in versions.folder.iterdir()) == ["CURRENT", "v000001"]
