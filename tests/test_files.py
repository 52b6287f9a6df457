"""Files and folders that are there as a whole or not at all."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from refusals import check_refused

from recbole_signed import files
from recbole_signed.files import replace_file, replace_text, replacing, replacing_folder
from recbole_signed.live.store.versions import MANIFEST, read_manifest, read_tensors, write_folder


def test_files_are_replaced_as_a_whole_where_they_change(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with replacing(path) as temporary:
        temporary.write_text("one")
        assert not path.exists()
        assert temporary.parent == path.parent  # a rename within one file system
    assert path.read_text() == "one"
    with pytest.raises(UnicodeEncodeError), replacing(path) as temporary:
        temporary.write_text("tw\ud800", encoding="utf-8")
    assert path.read_text() == "one"
    assert os.listdir(path.parent) == ["a.txt"]
    path = tmp_path / "a.txt"
    replace_text(path, "é")
    os.utime(path, ns=(1, 1))
    replace_text(path, "é")
    assert path.stat().st_mtime_ns == 1
    replace_text(path, "e")
    assert path.read_text() == "e"


def with_one(folder: Path, name: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).touch()


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_is_replaced_as_a_whole_or_not_at_all(there: bool, tmp_path: Path) -> None:
    target = tmp_path / "set"
    if there:
        with_one(target, "old")
    with pytest.raises(FileNotFoundError), replacing_folder(target, overwrite=True) as folder:
        with_one(folder, "no folder/half")
    assert target.exists() == there
    assert not there or os.listdir(target) == ["old"]
    with replacing_folder(target, overwrite=True) as folder:
        with_one(folder, "new")
    assert os.listdir(target) == ["new"]
    assert os.listdir(tmp_path) == ["set"]


def test_a_folder_that_comes_to_be_meanwhile_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "set"
    with pytest.raises(FileExistsError, match="set exists"), replacing_folder(target, overwrite=False):
        with_one(target, "theirs")
    assert os.listdir(target) == ["theirs"]
    assert os.listdir(tmp_path) == ["set"]


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> list[str | int]:
    """List the steps that are reached, and before them the files and folders (inodes) that were waited for."""
    found: list[str | int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: found.append(os.fstat(descriptor).st_ino))
    monkeypatch.setattr(files, "reached", found.append)
    return found


def inode(path: Path) -> int:
    return path.stat().st_ino


def test_a_file_and_a_folder_are_on_disk_before_their_names_and_the_names_before_they_count(
    tmp_path: Path, on_disk: list[str | int]
) -> None:
    path = tmp_path / "a"
    replace_file(path, b"one")
    assert on_disk == [inode(path), "a:written", inode(tmp_path), "a:replaced"]
    folder = tmp_path / "v1"
    write_folder(folder, {"edges": {"a": np.zeros(3)}, "model": {}}, {}, "set")
    tensors = [each for name in ("edges", "model") for each in (inode(folder / f"{name}.safetensors"), "set:tensors")]
    whole = [inode(folder / MANIFEST), inode(folder), "set:written"]
    assert on_disk == [*tensors, *whole, inode(tmp_path), "set:renamed"]


def test_a_file_of_bytes_and_a_folder_in_the_place_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(bytes(range(256)))
    replace_text(tmp_path / "text", "new")
    assert (tmp_path / "text").read_text() == "new"
    for path in (tmp_path, Path(".")):
        with pytest.raises(IsADirectoryError):
            replace_text(path, "new")


def test_tensor_files_are_those_of_safetensors(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    rng = np.random.default_rng(0)
    tensors = {
        "long": rng.integers(0, 9, (3, 4)), "bytes": rng.integers(-9, 9, 5).astype(np.int8),
        "none": np.zeros((0, 7), dtype=np.float32), "strided": np.asfortranarray(rng.random((4, 5))),
        "bools": rng.random(3) > 0.5, "one": np.float32(3.5).reshape(()),
    }  # fmt: skip
    write_folder(tmp_path / "folder", {"some": tensors}, {}, "test")
    for found in (
        load_file(tmp_path / "folder" / "some.safetensors"),
        read_tensors(tmp_path / "folder", read_manifest(tmp_path / "folder"), "some"),
    ):
        assert found.keys() == tensors.keys()
        for name, each in tensors.items():
            np.testing.assert_array_equal(found[name], each)
            assert found[name].dtype == each.dtype


def test_checksums_are_of_whole_files_and_missing_ones_are_named(tmp_path: Path) -> None:
    content = bytes(range(256)) * 8192  # more than is read at a time
    (tmp_path / "large").write_bytes(content)
    assert files.sha256(tmp_path / "large") == hashlib.sha256(content).hexdigest()
    (tmp_path / "model.rs").touch()
    files.require_file(tmp_path / "model.rs")
    check_refused(r"there is no file .*model.rz; did you mean 'model.rs'", files.require_file, tmp_path / "model.rz")
    check_refused(r"is a folder; give one file in it\.", files.require_file, tmp_path)
    os.mkfifo(tmp_path / "pipe")
    check_refused(r"pipe is a pipe or a device, which can't be read twice", files.require_file, tmp_path / "pipe")
