"""Flipped bits, damaged and crafted files of a state, a full disk: found at opening, and refused in one sentence."""

import contextlib
import hashlib
import itertools
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bare_state import ready
from refusals import check_refused
from small_recommender import begin, event
from state_hashes import state_hash
from typer.testing import CliRunner

from recbole_signed.cli.app import app
from recbole_signed.cli.state import _damage
from recbole_signed.errors import UsageError
from recbole_signed.live import LIKE, Event, EventBatch, OnlineRecommender
from recbole_signed.live.replica import OnlineReplica
from recbole_signed.live.store import database, seen
from recbole_signed.live.store.backup import noted
from recbole_signed.live.store.database import LOG
from recbole_signed.live.store.event_log import EventLog
from recbole_signed.live.store.state import OnlineState
from recbole_signed.live.store.versions import MANIFEST, Versions, read_manifest

N_EVENTS = 300


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state whose log has something in every table, and which began with a user and an item of a data set."""
    folder = tmp_path_factory.mktemp("logged") / "state"
    with OnlineState.open(folder) as state:
        state.bulk_load(["old"], ["item0"], *(np.array([each]) for each in (1, 1, LIKE, 1)))
        for first in range(0, N_EVENTS, 20):
            state.ingest(
                EventBatch.from_events(
                    event(n, f"user{n % 37}", f"item{n % 23}", "like") for n in range(first, first + 20)
                )
            )
        state.ingest(
            EventBatch.from_events(
                Event(f"a{n}", "", f"item{n}", "item", 10**12, features={"year": n}) for n in range(9)
            )
        )
        state.ingest(EventBatch.from_events([Event("f", "user3", "", "forget_user", 10**12)]))
        state.withdraw(["item5", "item6"])
    return folder


def seen_by(folder: Path) -> tuple[Any, ...]:
    """Return what a state tells and does: tokens, edges, duplicates, late events, withdrawn items."""
    with ready(folder) as state:
        told = state_hash(state), sorted(state.withdrawn), json.dumps(state.announced(), sort_keys=True), state.last_seq
        again = state.ingest(
            EventBatch.from_events(
                [
                    *(event(n, f"user{n % 37}", "x", "like") for n in range(N_EVENTS)),
                    Event("l", "user3", "y", "like", 5),
                ]
            )
        )
        return (*told, again.n_new, again.n_duplicate, again.n_refused)


def with_damage(
    folder: Path, file: Path, damaged: bytes | bytearray, told: Callable[[Path], tuple[Any, ...]]
) -> tuple[Any, ...] | None:
    """Return what a copy of a state tells with one file replaced; None where it is refused in a sentence."""
    shutil.rmtree(folder / "copy")
    shutil.copytree(folder / "state", folder / "copy")
    (folder / "copy" / file).write_bytes(damaged)
    try:
        return told(folder / "copy")
    except UsageError:
        return None


MANY = pytest.mark.slow
"""``pytest -m slow -s tests/online/test_damage.py`` says how many flips were found."""


@pytest.mark.parametrize("n_flips", [120, pytest.param(1200, marks=MANY)])
def test_every_flipped_bit_of_the_log_is_found_at_opening_or_changes_nothing(
    tmp_path: Path, logged: Path, n_flips: int
) -> None:
    """Tokens, ids of events, graves and withdrawn items included."""
    shutil.copytree(logged, tmp_path / "state")
    shutil.copytree(tmp_path / "state", tmp_path / "copy")
    expected = seen_by(tmp_path / "copy")
    content = (tmp_path / "state" / "log.sqlite").read_bytes()
    rng = np.random.default_rng(5)
    used = np.flatnonzero(np.frombuffer(content, dtype=np.uint8))  # where something is written
    refused = 0
    for place in rng.choice(used, n_flips, replace=False).tolist():
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        found = with_damage(tmp_path, Path("log.sqlite"), damaged, seen_by)
        refused += found is None
        assert found in (None, expected), place
    print(f"log.sqlite: of {n_flips} flips {refused} refused, the others without effect")
    assert refused > n_flips / 2


NUMBERS = (
    *("seen.seq", "seen.user", "events.seq", "events.user", "events.item", "events.type", "events.timestamp"),
    *("commits.last_seq", "commits.first_seq", "commits.kept", "commits.n_users", "commits.n_items"),
    *("erasures.user", "erasures.seq", "erasures.timestamp", "erasures.files", "graves.until", "graves.timestamp"),
    *("grave_keys.until", "users.id", "items.id", "sums.value"),
)
CHANGES = [
    *(
        f"UPDATE {table} SET {name} = {name} + 1 WHERE {name} = (SELECT max({name}) FROM {table})"
        for table, name in (each.split(".") for each in NUMBERS)
    ),
    # as a flipped bit makes of the type of a value, which SQLite keeps beside it
    "UPDATE users SET token = CAST(token AS BLOB) WHERE id = 2",
    "UPDATE items SET salt = CAST(salt AS TEXT) WHERE id = 2",
    "UPDATE users SET tag = 5 WHERE id = 2",
    "UPDATE meta SET key = CAST(key AS BLOB) WHERE key = 'format'",
    "UPDATE meta SET value = 'x' WHERE key = 'base_seq'",
    "UPDATE commits SET kept = 'x' WHERE first_seq = 1",
    "UPDATE commits SET n_users = x'00' WHERE first_seq = 1",
    "UPDATE events SET item = 'x' WHERE seq = 3",
    "UPDATE features SET content = x'7b7d'",
    *(f"UPDATE features SET {change}" for change in ("content = '{}'", "token = token || 'b'", "checksum = 5")),
    *(f"UPDATE features SET side = '{side}'" for side in ("user", "users")),
    "DELETE FROM events WHERE seq = 7",
    "DELETE FROM users WHERE id = 2",
    # when users joined, which would hide items, or show those that newcomers alone have touched
    "UPDATE users SET joined = 1 WHERE id = 1",
    *(f"UPDATE users SET joined = {joined} WHERE id = 2" for joined in (0, 1e300)),
    *(f"UPDATE users SET joined = (joined | {1 << b}) - (joined & {1 << b}) WHERE id = 2" for b in (0, 9, 31, 43, 62)),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_row_that_is_not_what_was_written_is_damage(tmp_path: Path, logged: Path, change: str) -> None:
    shutil.copytree(logged, tmp_path / "state")
    with contextlib.closing(sqlite3.connect(tmp_path / "state" / LOG, isolation_level=None)) as log:
        assert log.execute(change).rowcount
    check_refused("is damaged", seen_by, tmp_path / "state")


def begin_all(folder: Path) -> None:
    """Begin a state with a base, versions, announced features, and a backup."""
    recommender = begin(folder)
    recommender.update([event(n, f"u{n % 50 + 1}", f"i{n % 35 + 1}", "like") for n in range(60)])
    recommender.update(
        [Event(f"a{n}", "", f"new{n}", "item", 10**12, features={"genre": ["x", "y"]}) for n in range(9)]
        + [Event(f"b{n}", f"u{n}", "", "user", 10**12, features={"age": n}) for n in range(1, 9)]
    )
    recommender.snapshot()
    recommender.compact()
    recommender.update([event(n, f"u{n % 50 + 1}", f"i{n % 35 + 1}", "dislike") for n in range(60, 90)])
    recommender.back_up(folder.parent / "backup")
    recommender.close()


def told_by(folder: Path) -> tuple[Any, ...]:
    """Return all that a state says and answers, also of an older version and of its backups."""
    with contextlib.closing(OnlineRecommender.open(folder)) as recommender:
        state = recommender.state
        features = state.announced()
        told = state_hash(state), state.last_seq, json.dumps(features, sort_keys=True), noted(folder)
        lists = [recommender.recommend(f"u{n}", 10) for n in range(1, 51, 7)]
    done = CliRunner().invoke(app, ["state", "verify", str(folder)])
    if done.exit_code:
        raise UsageError(done.output)
    return (*told, lists)


def test_a_log_written_while_checked_is_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ready(tmp_path) as state:
        numbers = itertools.count()

        def write() -> None:
            number = next(numbers)
            state.ingest(EventBatch.from_events([event(number, f"user{number}", "item", "like")]))
            state.withdraw([f"item{number}"])

        def kept_sum(connection: sqlite3.Connection, *given: Any) -> int:
            if connection is not state.log.connection:  # the rows were read
                write()
            return read_sum(connection, *given)

        write()
        read_sum = database.kept_sum
        for module in (seen, database):
            monkeypatch.setattr(module, "kept_sum", kept_sum)
        with contextlib.closing(EventLog(tmp_path / LOG, read_only=True)) as log:
            log.verify()
        assert next(numbers) == 4


def test_a_version_and_a_base_that_go_while_they_are_read_are_not_damage(
    recommender: OnlineRecommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recommender.update([event(1, "u1", "i1", "like")])

    def load(versions: Versions, name: str) -> Any:
        if name == versions.current():
            recommender.snapshot()  # another one is the current version then
        shutil.rmtree(versions.folder / name)
        return load_version(versions, name)

    def manifest(folder: Path) -> dict[str, Any]:
        if folder.name.startswith("base-0"):
            recommender.compact()
        return read_manifest(folder)

    load_version = Versions.load
    recommender.snapshot()
    recommender.versions.remove("v000001")
    monkeypatch.setattr("recbole_signed.live.store.versions.read_manifest", manifest)
    damage, _ = _damage(tmp_path / "state", tmp_path / "state" / LOG)
    assert (damage, recommender.state.base._log.base_seq if recommender.state else 0) == ({}, 1)
    monkeypatch.setattr(Versions, "load", load)
    assert _damage(tmp_path / "state", tmp_path / "state" / LOG)[0] == {}


@pytest.mark.parametrize("n_flips", [4, pytest.param(80, marks=MANY)])
def test_every_flipped_bit_of_the_other_files_is_found_or_changes_nothing(tmp_path: Path, n_flips: int) -> None:
    """Of each file: base, versions and their manifests, CURRENT, SEQ, and the register of backups."""
    begin_all(tmp_path / "state")
    shutil.copytree(tmp_path / "state", tmp_path / "copy")
    expected = told_by(tmp_path / "copy")
    paths = sorted(path for path in (tmp_path / "state").rglob("*") if path.is_file() and "log.sqlite" not in path.name)
    names = {path.name for path in paths}
    assert {"SEQ", "CURRENT", "BACKUPS", "manifest.json", "edges.safetensors"} <= names
    rng = np.random.default_rng(8)
    for path in paths:
        content, refused = path.read_bytes(), 0
        for _ in range(n_flips if content else 0):
            damaged = bytearray(content)
            damaged[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
            found = with_damage(tmp_path, path.relative_to(tmp_path / "state"), damaged, told_by)
            refused += found is None
            assert found in (None, expected), path
        print(
            f"{path.relative_to(tmp_path / 'state')}: of {n_flips} flips {refused} refused, the others without effect"
        )
        assert refused or path.name in ("LOCK", "CURRENT", "SEQ")


@pytest.mark.parametrize(
    ("how", "n_times"),
    [("flip", 25), ("cut", 25), ("gone", 1), *(pytest.param(how, 400, marks=MANY) for how in ("flip", "cut"))],
)
def test_a_damaged_write_ahead_file_does_not_lose_events_silently(tmp_path: Path, how: str, n_times: int) -> None:
    rng, state = np.random.default_rng(6), OnlineState.open(tmp_path / "state")
    state.recover()
    for n in range(40):
        state.ingest(EventBatch.from_events([event(n, f"user{n % 7}", f"item{n % 5}", "like")]))
    shutil.copytree(tmp_path / "state", tmp_path / "crashed")  # as a killed process leaves it
    state.close()
    content = (tmp_path / "crashed" / "log.sqlite-wal").read_bytes()
    written = np.flatnonzero(np.frombuffer(content, dtype=np.uint8))
    refused = 0
    for _ in range(n_times):
        damaged, place = bytearray(content), int(rng.choice(written))
        damaged[place] ^= 1 << int(rng.integers(8))
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(tmp_path / "crashed", tmp_path / "copy")
        (tmp_path / "copy" / "log.sqlite-shm").unlink(missing_ok=True)
        wal = tmp_path / "copy" / "log.sqlite-wal"
        wal.write_bytes(damaged if how == "flip" else content[:place])
        if how == "gone":
            wal.unlink()
        try:
            with ready(tmp_path / "copy") as copy:
                assert copy.applied_seq == 40
        except UsageError as error:
            assert "was acknowledged" in str(error) or "damaged" in str(error)  # noqa: PT017
            refused += 1
    print(f"log.sqlite-wal: of {n_times} times ({how}) {refused} refused, the others without effect")
    assert refused


def test_a_mark_that_lags_or_is_damaged_is_no_obstacle(tmp_path: Path, logged: Path) -> None:
    state_folder = shutil.copytree(logged, tmp_path / "state")
    for content in (b"", b"nonsense", (3).to_bytes(8, "little") + b"abcd"):
        (state_folder / "SEQ").write_bytes(content)
        with ready(state_folder) as state:
            assert state.last_seq == N_EVENTS + 10


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Write a manifest as an attacker would, with a checksum that fits."""
    path, manifest = folder / MANIFEST, read_manifest(folder)
    change(manifest)
    text = json.dumps(manifest, indent=1, sort_keys=True)
    path.write_text(f"{text}\n{hashlib.sha256(text.encode()).hexdigest()}\n")


def put_file(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    rewrite(folder, lambda manifest: manifest["sha256"].update({name: hashlib.sha256(content).hexdigest()}))


CRAFTED: dict[str, Callable[[Path], None]] = {
    "no applied_seq": lambda folder: rewrite(folder, lambda m: m.pop("applied_seq")),
    "text for a number": lambda folder: rewrite(folder, lambda m: m.update(applied_seq="1")),
    "no meta": lambda folder: rewrite(folder, lambda m: m.update(meta=None)),
    "empty meta": lambda folder: rewrite(folder, lambda m: m.update(meta={})),
    "no learner": lambda folder: rewrite(folder, lambda m: m["meta"].update(learner={"model": "SSF"})),
    "another model": lambda folder: rewrite(folder, lambda m: m["meta"]["learner"].update(model="KD_DAGFM")),
    "code for a parameter": lambda folder: rewrite(
        folder, lambda m: m["meta"]["learner"]["parameters"].update(rank="__import__('os').system('touch pwned')")
    ),
    "no sums": lambda folder: rewrite(folder, lambda m: m.pop("sha256")),
    "no format": lambda folder: rewrite(folder, lambda m: m.pop("format")),
    "no tensors": lambda folder: put_file(folder, "model.safetensors", b"nonsense"),
    "empty tensors": lambda folder: put_file(folder, "model.safetensors", (2).to_bytes(8, "little") + b"{}"),
    "no edges": lambda folder: put_file(folder, "edges.safetensors", (2).to_bytes(8, "little") + b"{}"),
    "a huge header": lambda folder: put_file(folder, "edges.safetensors", (2**60).to_bytes(8, "little") + b"{}"),
}


@pytest.mark.parametrize("what", list(CRAFTED))
def test_a_crafted_version_ends_in_one_sentence_and_is_listed(tmp_path: Path, what: str) -> None:
    begin(tmp_path / "state").close()
    CRAFTED[what](tmp_path / "state" / "versions" / "v000001")
    with pytest.raises(UsageError):
        OnlineRecommender.open(tmp_path / "state")
    with pytest.raises(UsageError):
        OnlineReplica(tmp_path / "state")
    assert not (tmp_path / "pwned").exists()
    done = CliRunner().invoke(app, ["state", "verify", str(tmp_path / "state")])
    assert done.exit_code in (0, 1)
    assert done.exception is None or isinstance(done.exception, SystemExit)
    done = CliRunner().invoke(app, ["state", "versions", "list", str(tmp_path / "state"), "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)[0]["name"] == "v000001"
