"""API keys, rate limits, settings."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from refusals import check_refused

from recbole_signed.errors import UsageError
from recbole_signed.live.serve import keys as module
from recbole_signed.live.serve.keys import ApiKeys, RateLimit, hashed, make_key
from recbole_signed.live.serve.settings import ServeSettings


def test_roles_and_threads(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    made = {role: make_key(path, role, f"for {role}") for role in ("read", "write", "admin")}
    assert path.stat().st_mode & 0o077 == 0
    assert not any(key in path.read_text() for key in made.values())
    keys = ApiKeys(path)
    allowed = {role: [keys.allows(key, need) for need in ("read", "write", "admin")] for role, key in made.items()}
    assert allowed == {"read": [True, False, False], "write": [True, True, False], "admin": [True, True, True]}
    assert keys.allows("wrong", "read") is None
    assert keys.allows(None, "read") is None
    assert ApiKeys(None).allows(None, "admin") is True
    free = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=free, stdout=subprocess.PIPE, text=True, check=True)
    counts = json.loads(done.stdout)
    assert len(counts) > 2  # torch's own, and at least OpenMP's and one BLAS
    assert set(counts) == {1}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("boss abc", "no role 'boss'; the roles are read, write, admin"),
        ("raed " + hashed("x"), "did you mean 'read'"),
        ("read abc", "SHA-256 of a key"),
        ("read " + "é" * 64, "SHA-256 of a key"),
    ],
)
def test_wrong_key_files(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "keys").write_text(f"# keys\n\n{line}\n")
    check_refused(message, ApiKeys, tmp_path / "keys")
    check_refused(r"can't read the API keys .*api-key admin --keys .*none' makes it", ApiKeys, tmp_path / "none")
    check_refused(r"can't read the API keys .*Is a directory; name a file", ApiKeys, tmp_path)
    check_refused("no role", make_key, tmp_path / "keys", "boss")


def test_rate_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    limit = RateLimit(2)
    assert [limit.wait("a") for _ in range(2)] == [0.0, 0.0]
    assert limit.wait("a") == pytest.approx(0.5)
    assert limit.wait("b") == 0.0
    clock[0] = 0.5
    assert limit.wait("a") == 0.0
    clock[0] += 3600  # a silence earns a second's worth, and not an hour's
    assert [limit.wait("a") for _ in range(3)] == [0.0, 0.0, pytest.approx(0.5)]
    for _ in range(5):  # what was refused costs nothing
        assert limit.wait("a") == pytest.approx(0.5)
    assert RateLimit(0).wait("a") == 0.0


@pytest.mark.parametrize("rate", [0.01, 50.0])
def test_only_callers_who_may_ask_again_are_left_out(rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(module, "MOST", 3)
    limit = RateLimit(rate)
    while not limit.wait("busy"):
        pass
    for number in range(20):
        clock[0] += 0.01 / rate
        limit.wait(str(number))
    assert limit.wait("busy")  # who has asked for all is not forgotten so soon
    clock[0] += 200 / rate
    for number in range(40):
        limit.wait(f"new {number}")
    assert "0" not in limit._buckets


def test_settings(tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text("limits: {k: 50}\nschedule: {refit: 0}\n")
    read = ServeSettings.read(path)
    assert (read.limits.k, read.schedule.refit, read.quality.k) == (50, 0, 20)
    assert ServeSettings.read(None) == ServeSettings()
    for text, message in (
        ("limits: {kk: 50}", "limits.kk"),
        ("shedule: {}", "did you mean 'schedule'"),
        ("limits: {k: many}", "'limits.k' must be a valid integer"),
        ("limits: {k: 0}", "'limits.k' must be greater than or equal to 1, but is 0."),
        ("limits: {bach: 5}", "did you mean 'batch'"),
        ("source: events.jsonl", "'events.jsonl'; it must be the address of a Redis stream"),
        (
            "allow_hosts: ['*', ratings.example, '::1', 'ratings.example:8443']",
            "allow_hosts has 'ratings.example:8443'",
        ),
        ("allow_hosts: ['https://ratings.example']", "without a scheme, a port or a path"),
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=message) as error:
            ServeSettings.read(path)
        assert "\n" not in str(error.value)


def test_keys_are_added_to_any_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    first = make_key(path, "read", "the phone")
    path.write_text(path.read_text().rstrip("\n"))
    second, keys = make_key(path, "admin"), ApiKeys(path)
    assert (keys.allows(first, "admin"), keys.allows(second, "admin")) == (False, True)
    for name, content in (("table.yaml", b"models: [Pop]\n"), ("noise.bin", bytes(range(256)))):
        path = tmp_path / name
        path.write_bytes(content)
        check_refused(r"no role 'models:'|can't read the API keys", make_key, path, "read")
        assert path.read_bytes() == content
    path = tmp_path / "keys"
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: make_key(path, "read"), range(40)))
    keys = ApiKeys(path)
    assert all(keys.allows(key, "read") for key in made)


def test_files_of_keys_stay_readable_or_are_named(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    make_key(path, "read")
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)  # a service of the group reads it
    if os.geteuid() == 0:
        os.chown(path, 4711, 4712)
    before = path.stat()
    make_key(path, "read")
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    check_refused(r"writing the API keys .* failed: No such file", make_key, tmp_path / "missing" / "keys", "read")


SCRIPT = """
import json
from recbole_signed.live.serve.start import compute_on_one_thread
compute_on_one_thread()
import torch
from threadpoolctl import threadpool_info
print(json.dumps([torch.get_num_threads(), *(each["num_threads"] for each in threadpool_info())]))
"""
