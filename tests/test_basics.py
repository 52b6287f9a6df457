"""Files, arrays, errors, memory and progress: the small things that everybody uses."""

import hashlib
import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import check_refused

import recbole_signed
from recbole_signed import files, progress
from recbole_signed.arrays import add_at, contains, distinct, first_rows, spans
from recbole_signed.cli.app import main
from recbole_signed.errors import argument, ending, nearest, options_named
from recbole_signed.files import replace_file, replace_text, replacing, replacing_folder
from recbole_signed.live.store.versions import MANIFEST, read_manifest, read_tensors, write_folder
from recbole_signed.memory import memory_bytes, reset_peak_memory
from recbole_signed.progress import report_progress


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


def test_what_a_killed_process_has_left_of_a_folder_goes(tmp_path: Path) -> None:
    target = tmp_path / "set [1]"
    with replacing_folder(target, overwrite=True) as alive:
        left, new = (tmp_path / f".set [1].7-0000000{number}.tmp" for number in (1, 2))
        for folder in (left, new, tmp_path / ".set [1].tmp", tmp_path / ".set 1.7-00000003.tmp"):
            with_one(folder, "half")
        for folder in (alive, left):
            os.utime(folder, (0, 0))
        others = set(tmp_path.iterdir()) - {alive, left}
        with replacing_folder(target.with_name("other"), overwrite=False):
            pass
        assert left.exists()
        with replacing_folder(target, overwrite=True):
            assert (alive.exists(), left.exists()) == (True, False)
    assert set(tmp_path.iterdir()) == {*others, target, tmp_path / "other"}


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


def test_a_file_is_on_disk_before_its_name_and_the_name_first_too(tmp_path: Path, on_disk: list[str | int]) -> None:
    path = tmp_path / "a"
    replace_file(path, b"one")
    assert on_disk == [inode(path), "a:written", inode(tmp_path), "a:replaced"]


def test_a_folder_is_on_disk_before_its_name_and_the_name_first_too(tmp_path: Path, on_disk: list[str | int]) -> None:
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


numbers = st.lists(st.integers(-(2**62), 2**62) | st.integers(0, 5))


@given(numbers, st.sampled_from([np.int64, np.int32, np.int8]))
def test_distinct_is_numpys(values: list[int], dtype: type) -> None:
    keys: Any = np.array(values, dtype=np.int64).astype(dtype)
    before = keys.copy()
    found = distinct(keys)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.unique(keys))
    np.testing.assert_array_equal(keys, before)


@given(numbers, numbers, st.sampled_from([np.int64, np.int32, np.int8, np.uint64]))
def test_contains_is_numpys(known: list[int], wanted: list[int], dtype: type) -> None:
    keys, asked = (np.array(each, dtype=np.int64).astype(dtype) for each in (known, wanted))
    np.testing.assert_array_equal(contains(distinct(keys), asked), np.isin(asked, keys))
    assert contains(distinct(keys), asked[None]).shape == (1, len(wanted))


@given(st.lists(st.integers(0, 6)))
def test_first_rows_are_where_codes_occur_first(values: list[int]) -> None:
    found = first_rows(np.array(values, dtype=np.int64), 7)
    assert found.tolist() == [values.index(code) if code in values else len(values) for code in range(7)]


def test_spans_are_the_ranges_one_after_the_other() -> None:
    start, length = np.array([5, 0, 7, 2]), np.array([2, 3, 0, 1])
    expected = [place for first, n in zip(start, length, strict=True) for place in range(first, first + n)]
    assert spans(start, length).tolist() == expected
    assert spans(start[:0], length[:0]).tolist() == []


def test_sentences_end_once_and_questions_last() -> None:
    assert ending("SFF", ["SSF", "SGFCF"]) == nearest("SFF", ["SSF", "SGFCF"]) == "; did you mean 'SSF'?"
    assert (ending("x", ["SSF"]), nearest("x", ["SSF"])) == (".", "")
    # messages ended in "?.", or went on behind the question mark
    call = re.compile(r"\{(?:ending|nearest)\((?:[^(){}]|\([^()]*\))*\)\}(.*)")
    files = Path(recbole_signed.__file__).parent.rglob("*.py")
    found = [(each.name, rest) for each in files for rest in call.findall(each.read_text(encoding="utf-8"))]
    assert len(found) > 30
    assert [each for each in found if not each[1].startswith('"')] == []


def test_a_message_names_an_argument_as_its_reader_writes_it() -> None:
    """In Python a message asked for ``--overwrite`` or ``--input PATH``."""
    asked = [("trials", ""), ("prune_after", "9"), ("overwrite", "True")]
    assert [argument(*each) for each in asked] == ["trials", "prune_after=9", "overwrite=True"]
    with options_named():
        assert [argument(*each) for each in asked] == ["--trials", "--prune-after 9", "--overwrite"]
        assert argument("n_users", option="--users") == "--users"
    assert argument("trials") == "trials"


def test_messages_name_arguments_in_python_and_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(recbole_signed.UsageError, match=re.escape("needs an input; give input=PATH.")):
        recbole_signed.convert("csv", None, tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(["convert", "csv", "--output", str(tmp_path)])
    assert "needs an input; give --input PATH." in capsys.readouterr().err


SCRIPT = """
import sys
import numpy as np
from recbole_signed.memory import hold_memory_down, memory_bytes

if sys.argv[1] == "held":
    hold_memory_down()
np.ones(30 << 20, dtype=np.int8).sum()  # freed: from now on glibc takes blocks up to this from its arena
before, kept = memory_bytes()[0], []
for _ in range(20):
    copy = np.ones(4 << 20, dtype=np.int8)
    kept.append((np.ones(50_000), copy))  # small ones that stay lie between large ones that go
kept = [small for small, _ in kept]
del copy
print(memory_bytes()[0] - before - sum(each.nbytes for each in kept))
"""


STEPS = """
import resource, sys
import numpy as np
from recbole_signed.memory import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()

def step():
    return sum(int(each[0]) for each in [np.ones(8 << 20, dtype=np.int8) for _ in range(4)])

step(), step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_a_step_finds_the_memory_of_the_step_before() -> None:
    found = {
        how: int(subprocess.run([sys.executable, "-c", STEPS, how], stdout=subprocess.PIPE, check=True).stdout)
        for how in ("kept", "as it is")
    }
    assert found["as it is"] > 1000  # pages; else the script shows nothing
    assert found["kept"] < 100


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_what_is_freed_does_not_stay_resident() -> None:
    found = {
        how: int(subprocess.run([sys.executable, "-c", SCRIPT, how], stdout=subprocess.PIPE, check=True).stdout)
        for how in ("held", "as it is")
    }
    assert found["as it is"] > 50 << 20  # else the script shows nothing
    assert found["held"] < 5 << 20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_the_size_is_what_the_system_counts_in_pages() -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    assert memory_bytes()[0] == pytest.approx(pages * os.sysconf("SC_PAGE_SIZE"), rel=0.05)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="VmHWM is Linux'")
def test_peak_memory_is_of_this_run_alone() -> None:
    block = bytearray(os.urandom(1) * 200_000_000)
    high = memory_bytes()[1]
    del block
    reset_peak_memory()
    now, low = memory_bytes()
    assert low < high - 100_000_000
    assert now <= low


class Terminal(io.StringIO):
    """What rich takes for a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "AFTER", 0.0)
    monkeypatch.setattr(progress, "PAUSES", (0.02, 0.02))


def test_a_short_step_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with report_progress("fit") as say:
        say("reading")
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("quick")
def test_long_steps_are_told_on_lines_until_they_fail(capsys: pytest.CaptureFixture[str]) -> None:
    with report_progress("fit") as say:
        say("reading")
        time.sleep(0.1)
        with report_progress("search") as within:
            within("setting 3")
            time.sleep(0.1)
        time.sleep(0.1)
    lines = capsys.readouterr().err.splitlines()
    assert {"fit: reading, 0 s", "fit: search, setting 3, 0 s"} <= set(lines)
    assert lines[-1] == "fit: done in 0 s"
    assert lines.index("fit: search, setting 3, 0 s") < len(lines) - 1 - lines[::-1].index("fit: reading, 0 s")

    def fails() -> None:
        with report_progress("fit"):
            time.sleep(0.05)
            raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        fails()
    assert "done" not in capsys.readouterr().err
    with report_progress("next", shown=False):
        time.sleep(0.05)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("quick")
def test_a_terminal_has_one_line_that_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with report_progress("fit") as say:
        say("reading [set-b]")
        time.sleep(0.5)
    shown = terminal.getvalue()
    assert "fit: reading [set-b], 0 s" in shown
    assert "done" not in shown


@given(places=st.lists(st.integers(0, 4), max_size=20))
def test_what_is_added_at_places_that_repeat_adds_up(places: list[int]) -> None:
    values = np.arange(1, len(places) + 1, dtype=np.float32)
    found = np.full(5, 0.5)
    add_at(found, np.array(places, dtype=np.int64), values)
    assert found.tolist() == [0.5 + sum(values[j] for j in range(len(places)) if places[j] == at) for at in range(5)]
