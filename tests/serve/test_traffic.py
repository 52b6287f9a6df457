"""Impressions, their outcomes, and what an experiment gets of them."""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from refusals import check_refused
from waiting import until

from recbole_signed.errors import UsageError
from recbole_signed.live.serve import TrafficLog, experiment_report, traffic
from recbole_signed.live.serve.traffic import ATTRIBUTION, SKEW, ImpressionQueue, Shown

DAY = 86_400_000


def shown(request: str, user: str, items: str, time: int, variant: str | None = "a", experiment: str = "test") -> Shown:
    exposures = [] if variant is None else [[(experiment, variant, 0.5)]]
    return Shown(request, user, list(items), time, "v1", exposures)


def rows(log: TrafficLog, columns: str = "i.item", experiment: str = "test") -> list[tuple[object, ...]]:
    """Columns of the impressions of an experiment, in their order."""
    joined = "FROM exposure e JOIN impression i ON i.id = e.impression WHERE e.experiment = ? ORDER BY i.id"
    return log._query(f"SELECT {columns} {joined}", (experiment,))


def in_a_thread(call: Callable[[], None]) -> Future[None]:
    """Call where a wait without an end holds up neither the test nor the end of the tests."""
    done: Future[None] = Future()

    def run() -> None:
        try:
            done.set_result(call())
        except Exception as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return done


@pytest.fixture
def log(tmp_path: Path) -> TrafficLog:
    return TrafficLog(tmp_path / "traffic.sqlite")


def test_outcomes_go_to_the_newest_impression(log: TrafficLog) -> None:
    log.write([shown("1", "u", "xy", 0), shown("2", "u", "x", 1000), shown("3", "other", "x", 1000)])
    assert log.outcome([("u", "x", 1, 2000), ("u", "y", -1, 2000), ("u", "z", 1, 2000)]) == 2
    assert log.outcome([("u", "x", 1, ATTRIBUTION + 1001)]) == 0  # too late
    assert rows(log, "i.like, i.dislike, e.propensity") == [(0, 0, 0.5), (0, 1, 0.5), (1, 0, 0.5), (0, 0, 0.5)]
    assert log.outcome([("u", "x", -1, -SKEW - 1)]) == 0  # before it was shown
    for at, news in ((-SKEW, 1), (-1, 0), (500, 0)):  # by a clock that lags, and before it was shown again
        assert log.outcome([("u", "x", -1, at)]) == news
        assert rows(log, "i.dislike") == [(1,), (1,), (0,), (0,)]
    assert log.outcome([("u", "x", 1, 2001)]) == 0  # taken back and given again: it is one like
    assert rows(log, "i.like") == [(0,), (0,), (1,), (0,)]


def test_no_covariate_holds_a_verdict_from_after_the_exposure(log: TrafficLog) -> None:
    log.write([shown("0", "u", "p", 0, variant=None), shown("1", "u", "q", 1, variant=None)])
    log.write([shown("2", "u", "x", ATTRIBUTION)])
    log.outcome([("u", "p", 1, ATTRIBUTION), ("u", "q", -1, ATTRIBUTION + 1)])
    (row,) = log.per_user("test").to_dicts()
    assert (row["impressions_before"], row["likes_before"], row["dislikes_before"]) == (1, 1, 0)


def test_the_period_before_begins_so_many_days_before_it_ends(log: TrafficLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "BEFORE", 2 * DAY)
    first = 3 * DAY + ATTRIBUTION
    for number, at in enumerate((DAY - 1, DAY, 3 * DAY)):
        log.write([shown(str(number), "u", "p", at, variant=None)])
    log.write([shown("3", "u", "x", first)])
    assert log.per_user("test")["impressions_before"].to_list() == [2]


def test_the_file_is_where_its_path_says(tmp_path: Path) -> None:
    folder = tmp_path / "a#b?mode=ro c%20d"
    folder.mkdir()
    log = TrafficLog(folder / "traffic.sqlite")
    log.write([shown("1", "u", "x", 0)])
    log.close()
    assert [each.name for each in tmp_path.iterdir()] == [folder.name]
    assert len(rows(TrafficLog(folder / "traffic.sqlite", read_only=True))) == 1


def test_per_user_with_the_period_before(log: TrafficLog) -> None:
    log.write([shown("0", "u", "pq", 0, variant=None), shown("0b", "w", "p", 0, variant=None)])
    log.outcome([("u", "p", 1, 10)])
    log.write([shown("1", "u", "xyz", DAY), shown("2", "u", "x", 2 * DAY), shown("3", "w", "x", DAY, variant="b")])
    log.write([shown("4", "w", "y", 2 * DAY, variant="a")])  # another variant later: the first one counts
    log.outcome([("u", "x", 1, DAY + 5), ("u", "y", -1, DAY + 6), ("w", "x", -1, DAY + 7)])
    found = {row["variant"]: row for row in log.per_user("test").to_dicts()}
    assert found["a"] == {
        "variant": "a", "propensity": 0.5, "first": DAY, "impressions": 4, "likes": 1, "dislikes": 1,
        "impressions_before": 2, "likes_before": 1, "dislikes_before": 0,
    }  # fmt: skip
    assert (found["b"]["impressions"], found["b"]["dislikes"], found["b"]["impressions_before"]) == (1, 1, 1)
    assert log.per_user("nothing").height == 0


def test_rows_of_two_machines_are_those_of_one_that_showed_everything(tmp_path: Path) -> None:
    one, two, both = (TrafficLog(tmp_path / f"{name}.sqlite") for name in ("one", "two", "both"))
    for n in range(40):
        mine = one if n % 2 else two  # a user is sent to one of them, and the verdict comes to all by the stream
        answer = shown(str(n), f"u{n}", "xyz", DAY + n, variant="ab"[n % 4 // 2])
        for each in (mine, both):
            each.write([answer])
        for each in (one, two, both):
            each.outcome([(f"u{n}", "xyz"[n % 3], 1 if n % 5 else -1, DAY + n + 1)])
    rows = pl.concat(each.per_user("test") for each in (one, two)), both.per_user("test")
    joined, whole = (experiment_report(each, "a", {"a": 0.5, "b": 0.5}) for each in rows)
    assert joined["variants"] == whole["variants"]
    pvalues = [each["pvalue"] for each in joined["comparisons"]]
    assert pvalues == pytest.approx([each["pvalue"] for each in whole["comparisons"]])


def test_interleaved_lists_and_splits_of_one_name(log: TrafficLog) -> None:
    exposures = [[("mix", "a", 0.5)], [("mix", "b", 0.5)], [("mix", "a", 0.5)]]
    log.write([Shown("1", "u", ["x", "y", "z"], 0, "v1", exposures)])
    log.outcome([("u", "y", 1, 5), ("u", "z", -1, 5)])
    log.write([Shown("2", "u", ["x"], 9, "v1", [[("mix", "b", 0.5)]])])  # no room for both
    assert log.interleaved("mix").filter(pl.col("request") == "2")["variant"].to_list() == ["b"]
    rows = {row["variant"]: row for row in log.interleaved("mix").filter(pl.col("request") == "1").to_dicts()}
    assert (rows["a"]["user"], rows["b"]["user"], rows["a"]["request"]) == (1, 1, "1")
    assert (rows["a"]["likes"], rows["a"]["dislikes"], rows["b"]["likes"]) == (0, 1, 1)
    log.write([shown("1", "u", "xy", 0), shown("2", "w", "xy", 0, variant="b")])
    log.write([Shown("3", user, ["x", "y"], 5, "v1", [[("test", "a", 0.5)], [("test", "b", 0.5)]]) for user in "uvw"])
    log.outcome([(user, item, 1, 6) for user in "uvw" for item in "xy"])
    assert sorted(row[:5] for row in log.per_user("test").rows()) == [("a", 0.5, 0, 2, 0), ("b", 0.5, 0, 2, 0)]
    assert set(log.interleaved("test")["request"]) == {"3"}


def test_experiments_and_policies_on_the_same_answers_are_told_apart(log: TrafficLog) -> None:
    variants = ("one", "p"), ("one", "q"), ("two", "p"), ("two", "q")
    for at, (user, (first, second)) in enumerate(zip("stuv", variants, strict=True)):
        exposures = [[("x", first, 0.5), ("y", second, 0.25)]]
        draws = [("x", "this", 0.5, 0.1), ("x", "that", 0.5, 0.2), ("y", "this", 0.25, 0.3)]
        log.write([Shown(f"r{user}", user, ["a", "b"], at, "v1", exposures, draws=draws)])
        mixed = [[("z", "one", 0.5), ("w", "two", 0.5)], [("z", "two", 0.5), ("w", "one", 0.5)]]
        log.write([Shown(f"m{user}", user, ["c", "d"], at, "v1", mixed)])
    assert log.per_user("x")["variant"].to_list() == ["one", "one", "two", "two"]
    assert log.per_user("y")["variant"].to_list() == ["p", "q", "p", "q"]
    assert rows(log, "i.item, e.variant", "y") == [(i, v) for v in "pqpq" for i in "ab"]
    log.outcome([(user, "d", 1, 5) for user in "stuv"])
    for name, loved in (("z", "two"), ("w", "one")):
        assert log.interleaved(name).filter(pl.col("likes") > 0)["variant"].to_list() == [loved] * 4
    for name, policy, probability in (("x", "this", 0.1), ("x", "that", 0.2), ("y", "this", 0.3)):
        assert log.drawn(name, policy).select("item", "probability").rows() == [("a", probability)] * 4
    assert log.drawn("y", "that").height == 0


def test_a_forgotten_user_is_in_no_byte(tmp_path: Path) -> None:
    path = tmp_path / "traffic.sqlite"
    log = TrafficLog(path)
    log.write([shown("request-of-u", "u@example.org", "xy", 0), shown("2", "w", "x", 0)])
    name = log._name("u@example.org")
    assert any(name in each.read_bytes() for each in tmp_path.iterdir())
    log.forget("u@example.org", 0)
    assert log._query("SELECT count(*) FROM exposure", ()) == [(1,)]
    for each in tmp_path.iterdir():
        content = each.read_bytes()
        assert b"u@example.org" not in content
        assert name not in content
        assert b"request-of-u" not in content
    assert len(rows(log)) == 1
    assert log.prune(10) == 1
    log.close()
    assert len(rows(TrafficLog(path, read_only=True))) == 0


def test_nobody_who_knows_an_id_finds_it_without_the_key(tmp_path: Path) -> None:
    names = []
    for file in ("one.sqlite", "one.sqlite", "other.sqlite"):
        log = TrafficLog(tmp_path / file)
        names.append(log._name("u"))
        log.close()
    assert names[0] == names[1] != names[2]


def test_a_clock_that_is_set_far_ahead_deletes_nothing_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log, clock, passed = TrafficLog(tmp_path / "traffic.sqlite"), [traffic.now_ms()], [1_000_000]
    monkeypatch.setattr(traffic, "now_ms", lambda: clock[0])
    monkeypatch.setattr(traffic, "_passed", lambda: passed[0])
    monkeypatch.setattr(traffic, "HOUR", 20)  # between looks
    monkeypatch.setattr(traffic, "DAY", 500)  # in which somebody can set the clock right
    log.write([shown("1", "u", "abc", clock[0])])
    queue = ImpressionQueue(log, 90 * DAY)

    def left_after(seconds: float) -> int:
        until = time.monotonic() + seconds
        while time.monotonic() < until and log.holding("u"):
            time.sleep(0.01)
        return log.holding("u")

    try:
        assert left_after(0.2) == 3
        clock[0] += 91 * DAY
        assert left_after(0.3) == 3
        clock[0] -= 91 * DAY  # set right
        assert left_after(0.6) == 3
        clock[0] += 91 * DAY
        passed[0] += 91 * DAY
        assert left_after(30) == 0
        assert caplog.text.count("The clock has been set forward by") == 1
    finally:
        queue.close()
        log.close()


@pytest.mark.parametrize("again", ["write", "open"])
def test_a_reader_does_not_keep_a_forgotten_user_for_good(tmp_path: Path, again: str) -> None:
    """While somebody reads, SQLite can't overwrite what was deleted: it is tried again."""
    path = tmp_path / "traffic.sqlite"
    log = TrafficLog(path)
    log.write([shown("request-of-u", "u", "xy", 0), shown("2", "w", "x", 0)])
    name = log._name("u")
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM impression").fetchone() == (3,)
    log.forget("u", 0)
    assert any(name in each.read_bytes() for each in tmp_path.iterdir())
    reader.execute("ROLLBACK")
    if again == "write":
        log.write([shown("3", "w", "y", 1)])
    else:
        TrafficLog(path).close()
    assert not any(name in each.read_bytes() for each in tmp_path.iterdir())
    reader.close()
    log.close()


def test_what_another_process_still_holds_of_a_forgotten_user_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "traffic.sqlite"
    writer, replica = TrafficLog(path), TrafficLog(path)
    held = [shown("1", "u", "xy", 0), shown("2", "w", "xy", 0)]  # seq 0
    writer.forget("u", 7)
    writer.forget("v", 5)  # does not let in what is older than the first
    replica.write(held)
    replica.write([replace(each, seq=6) for each in held])
    assert len(rows(replica)) == 0
    replica.write([replace(shown("3", "w", "xy", 0), seq=7)])
    assert len(rows(replica)) == 2
    writer.reach(9)
    replica.write([replace(shown("5", "w", "z", 0), seq=8)])
    assert len(rows(replica)) == 3
    writer.reach(3)  # the erasure was refused
    replica.write([replace(shown("4", "w", "x", 0), seq=3)])
    assert len(rows(replica)) == 4
    for each in (writer, replica):
        each.close()


def test_no_erasure_comes_between_the_look_and_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "traffic.sqlite"
    writer, replica = TrafficLog(path), TrafficLog(path)
    erased: list[Future[None]] = []

    def answers() -> Iterator[Shown]:
        erased.append(in_a_thread(lambda: writer.forget("u", 7)))  # once it is known that seq 0 may be written
        wait(erased, 0.5)
        yield shown("1", "u", "xy", 0)

    replica.write(answers())
    erased[0].result(60)
    assert replica.holding("u") == 0
    for each in (writer, replica):
        each.close()


def test_a_report_holds_nothing_up(log: TrafficLog) -> None:
    log.write([shown("r1", "u", "ab", 1000)])
    counting = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000000) SELECT count(*) FROM n"
    )
    report = in_a_thread(lambda: log._query(counting, ()))
    time.sleep(0.1)
    log.forget("u", 1)
    assert (log.holding("u"), log.added()) == (0, 2)
    log.write([shown("r2", "v", "ab", 2000)])
    assert not report.done()
    report.result(120)


def test_what_can_not_be_opened(tmp_path: Path) -> None:
    check_refused("not logged an impression yet", TrafficLog, tmp_path / "none.sqlite", read_only=True)
    (tmp_path / "text.sqlite").write_text("no database " * 100)
    check_refused("can't open the log of impressions", TrafficLog, tmp_path / "text.sqlite")
    with contextlib.closing(sqlite3.connect(tmp_path / "old.sqlite")) as old:
        old.executescript(traffic._SCHEMA.replace(" AUTOINCREMENT", ""))
    check_refused("no such table: .* another version of this package: move it", TrafficLog, tmp_path / "old.sqlite")
    check_refused(r"unable to open.*needs 'impressions: false'", TrafficLog, tmp_path / "no folder" / "traffic.sqlite")


def test_what_can_not_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "traffic.sqlite"
    log = TrafficLog(path)
    log.write([shown(str(i), "u", "xyz", i) for i in range(500)])
    log.close()
    content = bytearray(path.read_bytes())
    middle = len(content) // 8192 * 4096
    content[middle : middle + 4 * 4096] = b"\xff" * 4 * 4096
    (tmp_path / "damaged.sqlite").write_bytes(content)
    damaged = TrafficLog(tmp_path / "damaged.sqlite", read_only=True)
    check_refused(r"can't read the log of impressions .*damaged\.sqlite: .*malformed", damaged.per_user, "test")


def test_old_impressions_are_deleted_beside_what_is_written(log: TrafficLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "STEP", 2)
    now = traffic.now_ms()
    log.write([shown("1", "u", "abcde", now - 3 * DAY), shown("2", "u", "xy", now - DAY)])
    for keep, left in ((None, 7), (2 * DAY, 2)):
        waiting = ImpressionQueue(log, keep)
        for _ in range(3):
            in_a_thread(lambda waiting=waiting: waiting.forget("nobody", 0)).result(timeout=30)  # type: ignore[misc]
        waiting.close()
        assert len(rows(log)) == left
    log.write([shown("3", "u", "abc", now - 3 * DAY)])
    assert [log.prune(now - 2 * DAY) for _ in range(3)] == [2, 1, 0]


@pytest.mark.parametrize("when", ["before the start", "since"])
def test_impressions_grow_old_where_nothing_happens(
    log: TrafficLog, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """In as many steps as it takes: those of before the start at once, the others at the next look."""
    monkeypatch.setattr(traffic, "STEP", 2)
    old = shown("1", "u", "abcdefg", traffic.now_ms() - 3 * DAY)
    if when == "since":
        monkeypatch.setattr(traffic, "HOUR", 10)
        waiting = ImpressionQueue(log, 2 * DAY)
        log.write([old])
    else:
        log.write([old])
        waiting = ImpressionQueue(log, 2 * DAY)
    until(lambda: not rows(log), 30)
    waiting.close()


def test_added_impressions_are_those_of_all_processes(tmp_path: Path) -> None:
    """And those that were deleted since."""
    log, other = TrafficLog(tmp_path / "traffic.sqlite"), TrafficLog(tmp_path / "traffic.sqlite")
    log.write([shown("1", "u", "xy", 0)])
    other.write([shown("2", "v", "xyz", 0)])
    assert log.added() == other.added() == 5
    assert (log.prune(1), log.added()) == (5, 5)
    later = TrafficLog(tmp_path / "traffic.sqlite")
    later.write([shown("3", "u", "xy", 5)])
    assert (later.added(), log.added()) == (2, 7)


def test_likes_and_dislikes_that_were_found_are_counted(log: TrafficLog) -> None:
    log.write([shown("1", "u", "xyz", 0)])
    waiting = ImpressionQueue(log)
    counted: Future[tuple[int, int]] = Future()
    verdicts = [("u", "x", 1, 5), ("u", "y", 1, 5), ("u", "z", -1, 5), ("u", "w", -1, 5), ("u", "z", -1, 6)]
    waiting.outcomes(verdicts, lambda likes, dislikes: counted.set_result((likes, dislikes)))
    assert counted.result(timeout=30) == (2, 1)
    waiting.close()


def test_what_waits_behind_a_failed_write_happens(log: TrafficLog, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = ImpressionQueue(log)
    counted: Future[tuple[int, int]] = Future()

    def full(answers: list[Shown]) -> None:
        if answers[0].request == "1":  # both wait when this returns, and are taken from the queue together
            waiting.put(shown("2", "u", "x", 0))
            waiting.outcomes([("u", "x", 1, 0)], lambda likes, dislikes: counted.set_result((likes, dislikes)))
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(log, "write", full)
    waiting.put(shown("1", "u", "x", 0))
    assert counted.result(timeout=30) == (0, 0)
    waiting.close()


def test_a_full_disk_is_told_once_until_answers_are_written_again(
    log: TrafficLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(answers: list[Shown]) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    def put(waiting: ImpressionQueue, n: int) -> None:
        for number in range(n):
            waiting.put(shown(str(number), "u", "x", 0))
            in_a_thread(lambda: waiting.forget("nobody", 0)).result(timeout=30)  # once it was tried

    waiting = ImpressionQueue(log)
    for times in (1, 2):
        with monkeypatch.context() as patch:
            patch.setattr(log, "write", full)
            put(waiting, 3)
        assert caplog.text.count("The log of impressions can't be written: database or disk is full") == times
        put(waiting, 1)
    waiting.close()
    assert "Traceback" not in caplog.text


def test_answers_that_are_not_logged_are_counted_in_the_log_of_the_service(
    log: TrafficLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(traffic, "WAITING", 2)
    waiting = ImpressionQueue(log)
    with log._lock:  # the disk takes its time
        waiting.put(shown("0", "u", "x", 0))
        while waiting._queue.qsize():
            time.sleep(0.001)
        for n in range(1, 6):
            waiting.put(shown(str(n), "u", "x", n))
    in_a_thread(lambda: waiting.forget("nobody", 0)).result(timeout=30)  # once all that waited is written
    waiting.put(shown("6", "u", "x", 6))
    waiting.close()
    assert len(rows(log)) == 4
    assert "3 answers were not logged" in caplog.text
    assert caplog.text.count("were not logged") == 1


def test_a_failed_erasure_is_told_and_the_next_one_happens(log: TrafficLog, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(user: str, seq: int) -> None:
        raise ValueError("no user")

    log.write([shown("1", "u", "x", 0)])
    waiting = ImpressionQueue(log)
    with monkeypatch.context() as patch:
        patch.setattr(log, "forget", broken)
        with pytest.raises(ValueError, match="no user"):
            in_a_thread(lambda: waiting.forget("u", 1)).result(timeout=30)
    in_a_thread(lambda: waiting.forget("u", 1)).result(timeout=30)
    assert len(rows(log)) == 0
    log.close()
    with pytest.raises(UsageError, match=r"what was shown to a user can't be erased: .*; send the event again"):
        in_a_thread(lambda: waiting.forget("u", 1)).result(timeout=30)
    waiting.close()
