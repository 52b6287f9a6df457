"""The commands on a state directory."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import outcome
from small_recommender import begin

from recbole_signed.live import Event, EventBatch
from recbole_signed.live.store.state import OnlineState


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with OnlineState.open(tmp_path / "state") as state:
        state.recover()
        for i in range(4):
            state.ingest(EventBatch.of([Event(f"e{i}-{j}", f"u{j}", f"i{i}", "like", j) for j in range(25)]))
            state.snapshot({"a": np.zeros(2)}, {}, model="SSF")
    return tmp_path / "state"


def as_json(capsys: pytest.CaptureFixture[str], *words: Any) -> Any:
    status, out, _ = outcome(capsys, *words, "--json")
    assert status == 0
    return json.loads(out)


def test_versions(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    names = [each["name"] for each in as_json(capsys, "state", "versions", "list", folder)]
    assert names == ["v000002", "v000003", "v000004"]
    assert as_json(capsys, "state", "versions", "pin", folder, names[0]) == {"version": names[0], "pinned": True}
    assert as_json(capsys, "state", "versions", "rollback", folder, names[1]) == {"current": names[1]}
    _, out, _ = outcome(capsys, "state", "versions", "list", folder)
    lines = out.splitlines()
    assert "(pinned)" in lines[1]
    assert lines[2].startswith("* v000003")
    assert as_json(capsys, "state", "versions", "gc", folder, "--keep", 1) == {"removed": []}
    assert "no longer pinned" in outcome(capsys, "state", "versions", "pin", folder, names[0], "--undo")[1]
    assert as_json(capsys, "state", "versions", "gc", folder, "--keep", 1) == {"removed": [names[0]]}
    with OnlineState.open(folder) as state:
        snapshot = state.recover()
        assert snapshot is not None
        assert snapshot.name == names[1]
        assert len(list(state.replay())) == 1


def test_the_log_and_an_event_by_any_spelling_of_its_id(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    found = as_json(capsys, "state", "log", folder, "--limit", 2, "--event-id", "e0-0")
    assert (found["last_seq"], found["base_seq"], found["users"], found["event_known"]) == (100, 0, 25, True)
    assert [row["user_id"] for row in found["rows"]] == ["u0", "u1"]
    assert as_json(capsys, "state", "compact", folder)["base_seq"] == 50
    for option in ("--after", "--limit"):
        status, _, err = outcome(capsys, "state", "log", folder, option, 2**63)
        assert (status, option in err) == (2, True)
    _, out, _ = outcome(capsys, "state", "log", folder)
    assert "base seq: 50" in out
    assert "like" in out.splitlines()[-1]
    typed, kept = "cafe\u0301", "caf\u00e9"
    with OnlineState.open(folder) as state:
        state.recover()
        list(state.replay())
        state.ingest(EventBatch.of([Event(typed, "u1", "i1", "view", 1_700_000_000_000)]))
    for event in (typed, kept):
        assert as_json(capsys, "state", "log", folder, "--event-id", event)["event_known"], event
    status, _, err = outcome(capsys, "state", "log", folder, "--event-id", "")
    assert (status, "event_id is empty" in err) == (2, True)


def test_a_log_without_versions_is_compacted_whole(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with OnlineState.open(tmp_path / "state") as state:
        state.recover()
        state.ingest(EventBatch.of([Event("e", "u", "i", "like", 1)]))
    assert as_json(capsys, "state", "compact", tmp_path / "state")["base_seq"] == 1
    assert "no version yet" in outcome(capsys, "state", "versions", "list", tmp_path / "state")[1]


def test_wrong_input(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    status, _, err = outcome(capsys, "state", "versions", "rollback", folder, "v000009")
    assert status == 2
    assert "There is no version 'v000009'" in err
    assert err.strip().endswith("'?")
    for command in (("log", tmp_path), ("verify", tmp_path), ("versions", "list", tmp_path), ("backup", tmp_path, "b")):
        status, _, err = outcome(capsys, "state", *command)
        assert status == 2
        assert f"{tmp_path} holds no online state (log.sqlite is not there)" in " ".join(err.split())
    with OnlineState.open(folder):
        for command in (("rollback", folder, "v000003"), ("gc", folder)):
            status, _, err = outcome(capsys, "state", "versions", *command)
            assert status == 2
            assert "is being written by process" in err
        assert outcome(capsys, "state", "versions", "pin", folder, "v000003")[0] == 0
        assert outcome(capsys, "state", "log", folder)[0] == 0
        assert outcome(capsys, "state", "compact", folder)[0] == 2


def test_verify(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert as_json(capsys, "state", "verify", folder) == {"damage": {}, "versions": 3, "dead_letters": 0}
    damaged = sorted((folder / "versions").glob("v*"))[0]
    tensors = damaged / "model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    status, out, _ = outcome(capsys, "state", "verify", folder)
    assert status == 1
    assert f"{damaged.name}: " in out
    assert "3 versions, 0 rejected events: damaged." in out


@pytest.mark.parametrize("content", ["", "v00000", "v000009\n"])
def test_verify_finds_a_damaged_current_version(capsys: pytest.CaptureFixture[str], folder: Path, content: str) -> None:
    (folder / "versions" / "CURRENT").write_text(content)
    status, out, _ = outcome(capsys, "state", "verify", folder)
    assert (status, "CURRENT: it names no version that is there" in out) == (1, True)
    assert outcome(capsys, "state", "versions", "rollback", folder, "v000002")[0] == 0
    assert as_json(capsys, "state", "verify", folder)["damage"] == {}


def test_verify_finds_a_damaged_log(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    log = folder / "log.sqlite"
    content = bytearray(log.read_bytes())
    content[content.index(b"u12")] ^= 255
    log.write_bytes(content)
    status, out, _ = outcome(capsys, "state", "verify", folder)
    assert status == 1
    assert "log.sqlite: " in out


def test_control_characters_are_escaped_in_what_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with OnlineState.open(tmp_path / "state") as state:
        state.recover()
        state.ingest(EventBatch.of([Event("e1", "\x1b[31mred\x9b2J", "i\x07tem", "like", 1)]))
    for words in (["log"], ["log", "--json"]):
        status, out, _ = outcome(capsys, "state", *words, tmp_path / "state")
        assert status == 0
        assert not {"\x1b", "\x07", "\x9b"} & set(out)
        assert "red" in out
    _, out, err = outcome(capsys, "state", "log", tmp_path / "no\x1b[31m")
    assert "\x1b" not in err + out


def test_refit(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    recommender = begin(tmp_path / "state")
    user = recommender.state.users.tokens([1])[0]  # type: ignore[union-attr]
    recommender.forget(user)
    assert recommender.pending_erasure.factors == 1
    status, _, err = outcome(capsys, "state", "refit", tmp_path / "state")
    assert (status, "is being written by process" in err) == (2, True)
    recommender.close()
    before = {each["name"] for each in as_json(capsys, "state", "versions", "list", tmp_path / "state")}
    told = as_json(capsys, "state", "refit", tmp_path / "state")
    assert told["pending_erasure"] == {"rows": 0, "factors": 0, "reasons": []}
    after = as_json(capsys, "state", "versions", "list", tmp_path / "state")
    assert [each["name"] for each in after if each["current"]] == [told["version"]]
    assert not before & {each["name"] for each in after}  # they knew the user
    assert "from scratch" in outcome(capsys, "state", "refit", tmp_path / "state")[1]
