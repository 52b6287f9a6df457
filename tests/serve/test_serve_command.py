"""The commands: a service from nothing, driven by simulated users, and what is reported of it."""

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from command_line import check_command_refused, outcome
from faults import no_room_at
from refusals import check_refused
from service_process import metric, pids, served
from small_recommender import begin
from waiting import until

import recbole_signed
from recbole_signed import api, files
from recbole_signed.convert import convert
from recbole_signed.errors import UsageError
from recbole_signed.live import OnlineRecommender
from recbole_signed.live.learners.asked import Asked
from recbole_signed.live.serve import TrafficLog, replicas, run_service, start
from recbole_signed.live.serve.catalogue import Catalogue
from recbole_signed.live.serve.keys import ApiKeys, make_key
from recbole_signed.live.serve.settings import ServeSettings
from recbole_signed.live.serve.simulator import Truth
from recbole_signed.live.serve.start import can_begin, init_state, listening_socket
from recbole_signed.live.serve.traffic import Shown

EXPERIMENTS = """
experiments:
  aversion:
    variants:
      plain: {share: 0.5}
      careful: {share: 0.5, parameters: {dislike_aversion: 3.0}}
"""


@pytest.fixture
def service(tmp_path: Path, toy: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a service over the toy set, in a process of its own; a parameter is more words."""
    words = ["--init", "SSF", "-d", toy, "auto=False", "rank=8", *getattr(request, "param", [])]
    with served(tmp_path, *words) as port:
        yield f"http://127.0.0.1:{port}"
    assert not list((tmp_path / "state").glob("log.sqlite-*"))  # SQLite removes them where the log is closed


def get(url: str, body: Any = None, method: str | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def test_serve_simulate_and_report(service: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert get(f"{service}/readyz")["ready"]
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(service, headers={"Host": "evil.example"}), timeout=30)
    assert refused.value.code == 421
    assert not (tmp_path / "log_tensorboard").exists()
    events = [{"user_id": "x" * n, "item_id": "i", "type": "like"} for n in (256, 257)]
    results = get(f"{service}/v1/events", {"events": events})["results"]
    assert [each.get("reason") for each in results] == [None, "user_id has 257 characters, and 256 are accepted"]
    assert get(f"{service}/v1/users/{'x' * 257}", method="DELETE")["accepted"] == 1
    status, out, _ = outcome(capsys, "simulate", service, "-d", "toy-signed", "--rounds", "30", "--json")
    assert status == 0
    found = json.loads(out)
    assert found["shown"] >= 30
    assert found["likes"] + found["dislikes"] > 0
    assert get(f"{service}/v1/quality")["windows"]["hour"]["all"]["likes"] > 0
    convert("toy", None, "dataset", name="mine")  # where run looks, too
    status, out, _ = outcome(capsys, "simulate", service, "-d", "mine", "--rounds", "2", "--json")
    assert (status, json.loads(out)["shown"] > 0) == (0, True)
    said = "there is no data set 'nine' in dataset or atomic_files"
    check_command_refused(said, capsys, "simulate", service, "-d", "nine")
    assert "items looked at in 5 lists" in outcome(capsys, "simulate", service, "--rounds", "5")[1]
    assert outcome(capsys, "experiment", "report", "none", "--state", "state")[0] == 2


@pytest.fixture
def configured(tmp_path: Path) -> None:
    make_key(tmp_path / "keys.txt", "admin")
    (tmp_path / "service.yaml").write_text("keys: keys.txt\nlimits: {connections: 20}\n")


@pytest.mark.parametrize("service", [["--config", "service.yaml"]], indirect=True)
@pytest.mark.usefixtures("configured")
def test_the_service_bounds_heads_and_connections_and_asks_for_keys(
    service: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(service, headers={"X-Long": "a" * 70_000}), timeout=30)
    assert refused.value.code == 431
    port = int(service.rsplit(":", 1)[1])
    held = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(25)]
    assert get(f"{service}/readyz")["ready"]
    assert held[0].recv(10) == b""  # the first ones made room
    for each in held:
        each.close()
    status, _, err = outcome(capsys, "simulate", service)
    assert (status, err.count("\n")) == (2, 1)
    assert err.endswith("X-API-Key; there was none, or another. Give one by --key or RECBOLE_SIGNED_KEY.\n")


@pytest.mark.parametrize("service", [["--workers", "2"]], indirect=True)
def test_sigterm_ends_a_service_in_order(service: str) -> None:
    """Also while a client holds a request open: its replicas have ended by then, and the status is 0."""
    until(lambda: len(pids(service)) >= 2, 240)
    found = pids(service)
    writer, replica = found["writer"], found["replica-1"]
    host, port = service.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as stalled:
        stalled.sendall(b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        time.sleep(0.5)
        os.kill(writer, signal.SIGTERM)
        ended, deadline = (0, 0), time.monotonic() + 60
        while not ended[0] and time.monotonic() < deadline:
            time.sleep(0.1)
            ended = os.waitpid(writer, os.WNOHANG)
        if not ended[0]:
            os.kill(writer, signal.SIGKILL)
        assert (ended[0] == writer, os.waitstatus_to_exitcode(ended[1])) == (True, 0)
    assert not Path(f"/proc/{replica}").exists()


def test_sigterm_ends_a_service_that_has_not_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(start, "run_service", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    assert outcome(capsys, "serve", "--state", tmp_path)[::2] == (0, "")


def test_ab_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "experiments.yaml").write_text(EXPERIMENTS)
    log = TrafficLog(state / "traffic.sqlite")
    for user in range(60):
        variant = "plain" if user % 2 else "careful"
        log.write([Shown(f"r{user}", f"u{user}", ["x", "y", "z"], user, "v", [[("aversion", variant, 0.5)]])])
        log.outcome([(f"u{user}", "x" if user % 3 else "y", 1 if user % 5 else -1, user + 1)])
    log.close()
    words = ["experiment", "report", "aversion", "--state", "state"]
    status, out, _ = outcome(capsys, *words)
    assert status == 0
    assert "control is plain" in out
    assert "like_rate" in out
    report = json.loads(outcome(capsys, *words, "--json")[1])
    assert (report["variants"]["plain"]["users"], report["policies"]) == (30, {})
    (state / "experiments.yaml").rename(tmp_path / "mine.yaml")
    assert outcome(capsys, *words, "--experiments", "none.yaml")[::2] == (
        2,
        "recbole-signed: there is no file none.yaml; did you mean 'mine.yaml'?\n",
    )
    with TrafficLog(state / "traffic.sqlite")._db as rows:  # as a variant that explores would have drawn them
        rows.execute(
            "INSERT INTO draw SELECT impression, 'aversion', 'careful', .5, .25 FROM exposure WHERE impression % 3 = 1"
        )
    drawn = outcome(capsys, *words, "--experiments", "mine.yaml")[1]
    assert "First places, had everybody got careful: like rate" in drawn
    assert "60 effective lists, mean weight 0.50" in drawn
    report = json.loads(outcome(capsys, *words, "--experiments", "mine.yaml", "--json")[1])
    assert report["policies"]["careful"]["weight"] == 0.5
    power = ["experiment", "power", "--rate", "0.1", "--effect", "0.05", "--impressions", "20"]
    assert json.loads(outcome(capsys, *power, "--users-per-day", "100", "--json")[1])["days"] > 10
    assert "users in each variant" in outcome(capsys, *power)[1]


@pytest.mark.parametrize("words", [["--demo"], ["--init", "SSF", "-d", "toy-signed", "--state", "state"]])
def test_an_address_and_experiments_are_refused_before_a_state_is_made(
    words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recbole_signed.live.serve.start.init_state", lambda *_: pytest.fail("a model is fitted"))
    check_command_refused("without API keys", capsys, "serve", *words, "--host", "0.0.0.0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        check_command_refused("can't listen on", capsys, "serve", *words, "--port", taken.getsockname()[1])
    assert not list(tmp_path.iterdir())
    (tmp_path / "service.yaml").write_text("experiments: tests.yaml")
    config = ["--config", "service.yaml", "--port", "0"]
    assert outcome(capsys, "serve", *words, *config)[::2] == (2, "recbole-signed: there is no file tests.yaml.\n")
    for content in ("", "shares: {}"):
        (tmp_path / "tests.yaml").write_text(content)
        check_command_refused("tests.yaml must hold one key, 'experiments'", capsys, "serve", *words, *config)


@pytest.mark.parametrize("folder", ["state/backup", "other"])
def test_a_folder_that_can_not_be_a_backup_is_refused_at_the_start(folder: str, tmp_path: Path) -> None:
    begin(tmp_path / "state").close()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(UsageError, match=r"is in the state itself|is not a backup"):
        run_service(tmp_path / "state", port=0, settings=ServeSettings(backup=tmp_path / folder), ready=pytest.fail)


def test_keys_are_made_and_answers_wait_for_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    key = json.loads(outcome(capsys, "api-key", "read", "--keys", str(tmp_path / "keys"), "--json")[1])["key"]
    assert ApiKeys(tmp_path / "keys").allows(key, "read")
    assert len(outcome(capsys, "api-key", "admin", "--keys", str(tmp_path / "keys"))[1].strip()) > 30
    # asyncio turns Nagle's algorithm off for sockets that name their protocol: beside delayed ACKs it costs 40 ms
    bound = listening_socket("127.0.0.1", 0)
    assert bound.proto == socket.IPPROTO_TCP
    bound.close()


@pytest.mark.parametrize("service", [["--workers", "2"]], indirect=True)
def test_two_processes_behind_one_port(service: str) -> None:
    """Every answer is current, whichever process gives it; a replica that was killed or hangs is started again."""

    def both_answer(known: int = 0) -> dict[str, int]:
        """Numbers of the two processes, none of which is `known`."""
        found: dict[str, int] = {}
        deadline = time.monotonic() + 240  # it is no test of speed, and the machine may do other things
        while (len(found) < 2 or known in found.values()) and time.monotonic() < deadline:
            with contextlib.suppress(OSError):  # a connection that the killed process had accepted
                found = pids(service)
            time.sleep(0.2)
        assert set(found) == {"writer", "replica-1"}
        assert known not in found.values()
        return found

    processes = both_answer()
    for turn in range(10):
        first = get(f"{service}/v1/users/2/recommendations?k=1")["items"][0]["item"]
        event = {"user_id": "2", "item_id": first, "type": "dislike" if turn % 2 else "like"}
        seq = get(f"{service}/v1/events", {"events": [event]})["seq"]
        for _ in range(4):
            after = get(f"{service}/v1/users/2/recommendations?k=1&min_seq={seq}")
            assert after["seq"] >= seq
            assert after["items"][0]["item"] != first
    replica = processes["replica-1"]
    assert int(Path(f"/proc/{replica}/stat").read_text().rpartition(")")[2].split()[1]) == processes["writer"]
    os.kill(replica, signal.SIGKILL)
    assert both_answer(replica)["writer"] == processes["writer"]
    assert metric(service, "replica_restarts_total")["writer"] == 1.0
    replica = both_answer()["replica-1"]
    os.kill(replica, signal.SIGSTOP)  # as one that waits for a disk
    assert both_answer(replica)["writer"] == processes["writer"]
    assert metric(service, "replica_restarts_total")["writer"] == 2.0
    # whichever process is asked, the answer is that of all: counters never fall from one look to the next
    seen: list[dict[str, float]] = []
    for _ in range(6):
        for user in range(4):
            get(f"{service}/v1/users/{user}/recommendations?k=1")
        seen.append(metric(service, "impressions_total"))
    assert all(a.get(name, 0) <= b.get(name, 0) for a, b in itertools.pairwise(seen) for name in b)


@pytest.fixture
def supervise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[float]]]:
    """Look after a replica, and return the moments at which it is started again."""
    monkeypatch.setattr(replicas, "LOOK", 0.005)
    monkeypatch.setattr(replicas, "PAUSE", 0.01)
    running: list[replicas.ReplicaProcesses] = []

    def start(*command: str, stopping: bool = False) -> list[float]:
        restarts: list[float] = []

        def restarted() -> None:
            restarts.append(time.monotonic())

        running.append(replicas.ReplicaProcesses(command, [tmp_path / "metrics"], restarted, lambda: stopping))
        running[0].start()
        return restarts

    yield start
    running[0].stop()


def test_replicas_that_end_at_once_are_started_again_later_and_later(
    supervise: Callable[..., list[float]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(replicas, "PAUSE", 0.1)
    restarts = supervise("sh", "-c", "exit 3")
    until(lambda: len(restarts) >= 3, 30)
    assert restarts[1] - restarts[0] >= 0.2
    assert restarts[2] - restarts[1] >= 0.4
    assert "a read replica ended with status 3; it is started again in" in caplog.text


def test_silent_replicas_go(
    supervise: Callable[..., list[float]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(replicas, "SILENT", 0.3)
    monkeypatch.setattr(replicas, "END", 0.2)  # it does not end when it is told to
    restarts = supervise("sh", "-c", "trap '' TERM; sleep 60 & wait; wait")
    for number in range(50):
        (tmp_path / "metrics").write_text("x" * number)
        time.sleep(0.01)
    assert not restarts
    until(lambda: restarts, 30)
    assert "a read replica does not answer any more; it is killed" in caplog.text
    time.sleep(0.6)
    assert len(restarts) == 1  # one that begins may take as long as it needs


def test_replicas_that_end_with_the_service_are_not_started_again(supervise: Callable[..., list[float]]) -> None:
    """Ctrl-C and systemd send the signal to all processes of a service."""
    restarts = supervise("true", stopping=True)
    time.sleep(0.3)
    assert not restarts


def test_an_unstarted_replica_is_tried_again(
    supervise: Callable[..., list[float]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, answers = subprocess.Popen, chain([None, OSError(12, "Cannot allocate memory")], repeat(None))

    def popen(command: list[str]) -> Any:
        if (error := next(answers)) is not None:
            raise error
        return real(command)

    monkeypatch.setattr(replicas.subprocess, "Popen", popen)
    restarts = supervise("true")
    until(lambda: restarts, 30)
    assert "can't be started: Cannot allocate memory" in caplog.text


@pytest.mark.parametrize("n_users", [1, 6])
@pytest.mark.parametrize("sign", [1, -1])
def test_simulated_users_who_all_think_alike(sign: int, n_users: int) -> None:
    user, item = np.divmod(np.arange(n_users * 5), 5)
    truth = Truth.of_edges([f"u{i}" for i in range(n_users)], list("abcde"), user, item, np.full(len(user), sign))
    assert ((truth.like > 0.5) == (sign > 0)).all()


@pytest.mark.parametrize("step", ["base:written", "snapshot:tensors", None])
def test_a_state_begins_again_after_a_cut(
    step: str | None, toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, given = tmp_path / "state", ("SSF", toy)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))

    with monkeypatch.context() as patch:
        patch.setattr(files, "reached", no_room_at(str(step)))
        with contextlib.suppress(UsageError):
            init_state(*given, state, {"auto": False, "rank": 4})
    assert any(state.iterdir())
    assert can_begin(state) is (step is not None)
    if can_begin(state):
        init_state(*given, state, {"auto": False, "rank": 4})
    assert list((tmp_path / "temporary").iterdir()) == []
    OnlineRecommender.open(state).close()
    check_refused("is not empty; serve it without --init", init_state, *given, state)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    assert not can_begin(tmp_path / "other")


def test_a_wrong_folder_of_state_is_refused_before_a_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "fit", lambda *_, **__: pytest.fail("a model is fitted"))
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"file can't be written by this user, so no state can begin in .*state"):
        init_state("SSF", "toy-signed", tmp_path / "file" / "deep" / "state")


def test_replicas_have_the_settings_of_the_writer(tmp_path: Path) -> None:
    make_key(tmp_path / "keys", "read")
    (tmp_path / "service.yaml").write_text(f"keys: {tmp_path / 'keys'}")
    settings = ServeSettings.read(tmp_path / "service.yaml")
    for given in ({"settings": settings}, {"config": tmp_path / "service.yaml"}):
        with pytest.raises(UsageError, match="such as no keys; give as config the yaml file"):
            run_service(tmp_path / "state", port=0, workers=2, **given)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="holds no online state"):
        run_service(tmp_path / "state", port=0, settings=settings, workers=2, config=tmp_path / "service.yaml")


@pytest.fixture
def unserved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state whose services end as soon as they would answer."""
    begin(tmp_path / "state").close()
    for name in ("_run", "hold_memory_down", "compute_on_one_thread"):
        monkeypatch.setattr(start, name, lambda *_: None)
    return tmp_path / "state"


def test_replicas_find_the_files_of_the_writer(unserved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes that make the log of impressions at once get in each other's way."""
    found: list[bool] = []

    class Replica:
        def __init__(self, command: list[str]) -> None:
            found.append((unserved / "traffic.sqlite").is_file())

        def poll(self, *_: object) -> None:
            pass

        terminate = wait = poll

    monkeypatch.setattr(replicas.subprocess, "Popen", Replica)
    start.run_service(unserved, port=0, workers=3)
    assert found == [True, True]


def test_two_services_do_not_share_a_port(unserved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would get a part of the events."""
    monkeypatch.setattr(replicas.ReplicaProcesses, "start", lambda _: pytest.fail("a replica starts"))
    with listening_socket("127.0.0.1", 0, shared=True) as taken:  # as a service with --workers has it
        port = taken.getsockname()[1]
        check_refused("can't listen on", run_service, unserved, port=port, workers=2)
        check_refused("can't listen on", start.run_replica, unserved, port=port)


def test_a_first_state_takes_the_names_of_items(toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "atomic_files" / toy
    item = (folder / "toy-signed.inter").read_text().splitlines()[1].split("\t")[1]
    given = ("SSF", str(folder), tmp_path / "state", {"auto": False, "rank": 4})
    with monkeypatch.context() as patch:
        patch.setattr(api, "fit", lambda *_, **__: pytest.fail("a model is fitted"))
        with pytest.raises(UsageError, match=r"names of items were asked for, but .*toy-signed\.item does not exist"):
            init_state(*given, "title")
        rows = f"item_id:token\ttitle:token_seq\tyear:float\n{item}\tHeat, The\t1995\nx\t\t1996\n"
        (folder / "toy-signed.item").write_text(rows)
        (folder / "dataset.json").unlink()  # which does not know of the file
        check_refused(r"no column 'titel' of features; did you mean 'title'\?", init_state, *given, "titel")
    init_state(*given, "title")
    with contextlib.closing(Catalogue(tmp_path / "state" / "catalogue.sqlite")) as catalogue:
        assert [catalogue.name(each) for each in (item, "x")] == ["Heat, The", None]


RATINGS = [(f"u{user}", item, 5 if user % 2 == item % 2 else 1) for user in range(12) for item in range(user % 3, 14)]


def test_a_first_state_begins_with_files_of_ratings_and_items(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One command: the rule and columns are options of ``convert csv``, ``rank`` is one of the model."""
    rows = "".join(f"{user},{item},{rating}\n" for user, item, rating in RATINGS)
    (tmp_path / "ratings.csv").write_text(f"who,movieId,rating\n{rows}")
    (tmp_path / "items.csv").write_text("movieId,name,genre\n" + "".join(f"{i},Film {i},g{i % 2}\n" for i in range(14)))
    monkeypatch.setattr("recbole_signed.live.serve.start.run_service", lambda *_, **__: None)
    monkeypatch.setattr("recbole_signed.progress.AFTER", 0.0)
    words = ["serve", "--init", "SSF", "--input", "ratings.csv", "--items", "items.csv", "--state", "state"]
    more = ["user=who", "item=movieId", "like=rating >= 4", "dislike=rating <= 2", "auto=False", "rank=4"]
    more += ["features.item=[genre]"]
    status, _, err = outcome(capsys, *words, *more)
    assert status == 0, err
    assert re.search(
        r"^reading ratings.csv: done in .*^beginning the state state: done in ", err, re.MULTILINE | re.DOTALL
    )
    assert "fit of SSF: " in err
    with contextlib.closing(Catalogue(tmp_path / "state" / "catalogue.sqlite")) as catalogue:
        assert catalogue.name("3") == "Film 3"
    with contextlib.closing(OnlineRecommender.open("state")) as live:
        assert len(live.recommend("u2", 3)) == 2  # of the two that the user has not rated
        assert live.learner.columns()["item"] == {"genre": "token"}
        asked = {"user_id": "u2", "type": "less", "timestamp": 1_700_000_000_000}
        results = live.ingest([{**asked, "features": {"genre": value}} for value in ("g1", "x")])
        assert [each.reason for each in results] == [None, "no item has the genre 'x'"]
        with live.reading() as (state, learner):
            ((wish, value, items),) = Asked.from_state(state, learner, state.users.id_of("u2")).moves
            assert (wish.sign, value) == (-1, "g1")
            assert sorted(map(int, state.items.tokens(items.tolist()))) == [1, 3, 5, 7, 9, 11, 13]
    check_command_refused("state is not empty", capsys, *words, *more)


def test_a_first_state_begins_with_a_saved_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = pl.DataFrame(RATINGS, schema=["user", "item", "rating"], orient="row")
    items = pl.DataFrame({"item": range(14), "title": [f"Film {item}" for item in range(14)]})
    data = recbole_signed.from_frame(frame, like="rating >= 4", dislike="rating <= 2", items=items)
    fitted = recbole_signed.fit("SSF", data, auto=False, rank=4)
    fitted.save("model.rs")
    monkeypatch.setattr("recbole_signed.live.serve.start.run_service", lambda *_, **__: None)
    status, _, err = outcome(capsys, "serve", "--model", "model.rs", "--state", "state")
    assert status == 0, err
    with contextlib.closing(OnlineRecommender.open("state")) as live:
        assert [item for item, _ in live.recommend("u2", 2)] == fitted.recommend("u2", k=2)["item"].to_list()
    with contextlib.closing(Catalogue(tmp_path / "state" / "catalogue.sqlite")) as catalogue:
        assert catalogue.name("3") == "Film 3"
