"""The commands of a state, and ``doctor``."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import check_command_refused, outcome, printed
from small_recommender import begin

from recbole_signed.cli import doctor
from recbole_signed.live import Event, EventBatch
from recbole_signed.live.store.state import OnlineState


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with OnlineState.open(tmp_path / "state") as state:
        state.recover()
        for i in range(4):
            state.ingest(EventBatch.from_events([Event(f"e{i}-{j}", f"u{j}", f"i{i}", "like", j) for j in range(25)]))
            state.snapshot({"a": np.zeros(2)}, {}, model="SSF")
    return tmp_path / "state"


def as_json(capsys: pytest.CaptureFixture[str], *words: Any) -> Any:
    out = printed(capsys, *words, "--json")
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
        check_command_refused(option, capsys, "state", "log", folder, option, 2**63)
    out = printed(capsys, "state", "log", folder)
    assert "base seq: 50" in out
    assert "like" in out.splitlines()[-1]
    typed, kept = "cafe\u0301", "caf\u00e9"
    with OnlineState.open(folder) as state:
        state.recover()
        list(state.replay())
        state.ingest(EventBatch.from_events([Event(typed, "u1", "i1", "view", 1_700_000_000_000)]))
    for event in (typed, kept):
        assert as_json(capsys, "state", "log", folder, "--event-id", event)["event_known"], event
    check_command_refused("event_id is empty", capsys, "state", "log", folder, "--event-id", "")


def test_a_log_without_versions_is_compacted_whole(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with OnlineState.open(tmp_path / "state") as state:
        state.recover()
        state.ingest(EventBatch.from_events([Event("e", "u", "i", "like", 1)]))
    assert as_json(capsys, "state", "compact", tmp_path / "state")["base_seq"] == 1
    assert "no version yet" in outcome(capsys, "state", "versions", "list", tmp_path / "state")[1]


def test_wrong_input(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    status, _, err = outcome(capsys, "state", "versions", "rollback", folder, "v000009")
    assert (status, "There is no version 'v000009'" in err, err.endswith("'?\n")) == (2, True, True)
    nothing = f"{tmp_path} holds no online state (log.sqlite is not there)"
    for command in (("log", tmp_path), ("verify", tmp_path), ("versions", "list", tmp_path), ("backup", tmp_path, "b")):
        check_command_refused(nothing, capsys, "state", *command)
    with OnlineState.open(folder):
        for command in (("versions", "rollback", folder, "v000003"), ("versions", "gc", folder), ("compact", folder)):
            check_command_refused("is being written by process", capsys, "state", *command)
        printed(capsys, "state", "versions", "pin", folder, "v000003")
        printed(capsys, "state", "log", folder)


def test_verify(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert as_json(capsys, "state", "verify", folder) == {"damage": {}, "versions": 3, "dead_letters": 0}
    damaged = sorted((folder / "versions").glob("v*"))[0]
    tensors = damaged / "model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    damage_is_told(capsys, folder, f"{damaged.name}: ")
    damage_is_told(capsys, folder, "3 versions, 0 rejected events: damaged.")


def damage_is_told(capsys: pytest.CaptureFixture[str], folder: Path, said: str) -> None:
    status, out, _ = outcome(capsys, "state", "verify", folder)
    assert (status, said in out) == (1, True)


@pytest.mark.parametrize("content", ["", "v00000", "v000009\n"])
def test_verify_finds_a_damaged_current_version(capsys: pytest.CaptureFixture[str], folder: Path, content: str) -> None:
    (folder / "versions" / "CURRENT").write_text(content)
    damage_is_told(capsys, folder, "CURRENT: it names no version that is there")
    printed(capsys, "state", "versions", "rollback", folder, "v000002")
    assert as_json(capsys, "state", "verify", folder)["damage"] == {}


def test_verify_finds_a_damaged_log(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    log = folder / "log.sqlite"
    content = bytearray(log.read_bytes())
    content[content.index(b"u12")] ^= 255
    log.write_bytes(content)
    damage_is_told(capsys, folder, "log.sqlite: ")


def test_control_characters_are_escaped_in_what_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with OnlineState.open(tmp_path / "state") as state:
        state.recover()
        state.ingest(EventBatch.from_events([Event("e1", "\x1b[31mred\x9b2J", "i\x07tem", "like", 1)]))
    for words in (["log"], ["log", "--json"]):
        out = printed(capsys, "state", *words, tmp_path / "state")
        assert not {"\x1b", "\x07", "\x9b"} & set(out)
        assert "red" in out
    _, out, err = outcome(capsys, "state", "log", tmp_path / "no\x1b[31m")
    assert "\x1b" not in err + out


def test_refit(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    recommender = begin(tmp_path / "state")
    user = recommender.state.users.tokens([1])[0]  # type: ignore[union-attr]
    recommender.forget(user)
    assert recommender.pending_erasure.factors == 1
    check_command_refused("is being written by process", capsys, "state", "refit", tmp_path / "state")
    recommender.close()
    before = {each["name"] for each in as_json(capsys, "state", "versions", "list", tmp_path / "state")}
    told = as_json(capsys, "state", "refit", tmp_path / "state")
    assert told["pending_erasure"] == {"rows": 0, "factors": 0, "reasons": []}
    after = as_json(capsys, "state", "versions", "list", tmp_path / "state")
    assert [each["name"] for each in after if each["current"]] == [told["version"]]
    assert not before & {each["name"] for each in after}  # they knew the user
    assert "from scratch" in outcome(capsys, "state", "refit", tmp_path / "state")[1]


GOOD: dict[str, str | None] = {
    **dict.fromkeys(doctor.PACKAGES, "1.0"),
    **{"recbole": "1.2.1", "pandas": "2.3.3", "torch": "2.13.0+cpu", "hyperopt": "0.2.5"},
}


def test_this_installation_is_well(tmp_path: Path) -> None:
    report = doctor.diagnose()
    assert report.ok, doctor.render(report)
    assert report.self_test.status == "ok"
    assert 0.8 < report.self_test.metrics["signauc"] <= 1
    assert 0 < report.self_test.metrics["recall@10"] <= 1
    assert report.versions["recbole"].startswith("1.2.")  # type: ignore[union-attr]
    assert report.ray.split()[0] in {"absent", "working", "broken"}
    assert "ray_optional" in report.repairs
    assert list(tmp_path.iterdir()) == [], "all was written elsewhere, and is gone"
    assert json.loads(json.dumps(report.as_dict(), allow_nan=False))["self_test"]["status"] == "ok"
    text = doctor.render(report)
    assert "everything works" in text
    assert all(f"{name} " in text for name in ("recbole", "torch", "signauc", *report.repairs))


@pytest.mark.parametrize(
    ("changes", "python", "level", "words"),
    [
        ({"pandas": "3.1.1"}, (3, 11), "error", "pandas 3.1.1 corrupts"),
        ({"recbole": None}, (3, 11), "error", "RecBole is not installed"),
        ({"recbole": "1.1.1"}, (3, 11), "error", "RecBole 1.1.1 is not supported"),
        ({"recbole": "1.3"}, (3, 11), "error", "RecBole 1.3 is not supported"),
        ({"recbole": "1.2.0"}, (3, 12), "warning", "AsymKNN"),
        ({"recbole": "1.2.0", "kmeans-pytorch": None}, (3, 12), "error", "imports kmeans-pytorch"),
        ({"recbole": "1.2.0", "psutil": None}, (3, 13), "error", "imports psutil"),
        ({"setuptools": None}, (3, 12), "error", "distutils"),
        ({}, (3, 9), "error", "Python 3.9"),
        ({}, (3, 14), "error", "Python 3.14"),
        ({"hyperopt": None}, (3, 11), "info", "HyperTuning"),
        ({"hyperopt": "0.3.0"}, (3, 11), "info", "exhaustive search"),
        ({"faiss": None}, (3, 11), "info", "NCL"),
        ({"lightgbm": None}, (3, 11), "info", "LightGBM"),
        ({"xgboost": None}, (3, 11), "info", "XGBoost"),
    ],
)
def test_bad_combinations(changes: dict[str, str | None], python: tuple[int, int], level: str, words: str) -> None:
    assert doctor.check(GOOD, (3, 11)) == []
    findings = doctor.check({**GOOD, **changes}, python)
    matching = [each for each in findings if words in each.what]
    assert [each.level for each in matching] == [level]
    assert matching[0].cure
    assert "\n" not in matching[0].what + matching[0].cure


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("raise RuntimeError('bad wheel')", "RuntimeError: bad wheel"),
        (
            "import os, sys\nprint('illegal instruction', file=sys.stderr, flush=True)\nos._exit(3)",
            "the process ended with status 3: illegal instruction",
        ),
    ],
)
def test_an_import_that_fails_or_ends_the_process(
    code: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fakes" / "recbole").mkdir(parents=True)  # before the real one, for child processes
    (tmp_path / "fakes" / "recbole" / "__init__.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path / "fakes"))
    report = doctor.diagnose(self_test=False)
    assert (report.ok, report.self_test.status, report.self_test.reason) == (False, "failed", why)
    assert "something is wrong" in doctor.render(report)
    json.dumps(report.as_dict(), allow_nan=False)


def test_a_process_that_hangs_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "TIMEOUT", 0.05)
    report = doctor.diagnose()
    assert not report.ok
    assert "did not end" in report.self_test.reason


def test_without_the_self_test_only_imports_are_tried() -> None:
    report = doctor.diagnose(self_test=False)
    assert report.ok
    assert report.self_test.status == "skipped"
    assert "ray_optional" in report.repairs
    assert report.device


def test_the_examination_fails_where_the_ranking_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_ray", lambda: "absent")  # an import that fails half-way stays out of this process
    doctor.examine(True)
    seen = json.loads((tmp_path / "result.json").read_text())
    assert "failure" not in seen
    monkeypatch.setattr(doctor, "_LEAST_AUC", 1.1)
    monkeypatch.setattr(sys.modules["recbole_signed.convert"], "convert", lambda *_: tmp_path / "data" / "toy-signed")
    doctor.examine(True)
    seen = json.loads((tmp_path / "result.json").read_text())
    assert re.search(r"in only \d+% of the pairs$", seen["failure"])


def test_another_meaning_of_list_indexing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._list_indexing() is None

    class Changed:
        def __getitem__(self, index: list[torch.Tensor]) -> torch.Tensor:
            return torch.ones(2, 2)[torch.stack(index)]

    monkeypatch.setattr(torch, "zeros", lambda *_: Changed())
    finding = doctor._list_indexing()
    assert finding is not None
    assert finding.level == "error"
    assert "MultiVAE" in finding.what


def test_what_is_trusted(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--json"]):
        out = printed(capsys, "doctor", "--security", *words)
        assert "recbole, recbole_gnn, recbole_signed" in out
        assert "literals" in out
