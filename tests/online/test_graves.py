"""Late events of forgotten users are refused as long as the grace of their day lasts, and by nothing afterwards."""

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings
from small_recommender import Clock

from recbole_signed.live import Event, EventBatch
from recbole_signed.live.store.event_log import EventLog
from recbole_signed.live.store.settings import StateSettings

DAY = 86_400
START = 1_700_000_000
STEPS = st.tuples(st.sampled_from("abc"), st.integers(0, 6), st.sampled_from((0, DAY // 3, 2 * DAY)))
"""A user, how far the time stamp is ahead of the clock, and seconds that pass before."""


@settings(max_examples=25)
@given(st.lists(st.tuples(STEPS, st.booleans()), max_size=25), st.sampled_from((0, DAY, 3 * DAY + 5)))
def test_late_as_a_list_says(tmp_path_factory: Any, steps: list[tuple[tuple[str, int, int], bool]], grace: int) -> None:
    clock = Clock(START)
    path: Path = tmp_path_factory.mktemp("log") / "log.sqlite"
    limits = StateSettings(grace=grace, clock=clock)
    log = EventLog(path, settings=limits)
    graves: list[tuple[str, int, int]] = []  # user, time stamp, and the end of the day on which its grace ends
    for number, ((user, ahead, passes), forgets) in enumerate(steps):
        clock.now += passes
        if number % 5 == 4:
            log.close()
            log = EventLog(path, settings=limits)
        log.end_graces()
        graves = [each for each in graves if each[2] > clock.now]
        stamp = 1000 * START + DAY // 3 * 1000 * ahead
        batch = EventBatch.from_events(
            [Event("", user, "", "forget_user", stamp) if forgets else Event("", user, "i", "like", stamp)]
        )
        late = any(stamp <= at for of, at, _ in graves if of == user)
        assert log.graves.late(batch).tolist() == [late]
        assert log.graves.time_of(user) == max((at for of, at, _ in graves if of == user), default=-1)
        if late:
            continue
        log.append(batch)
        if forgets and grace:
            until = -(-(int(clock.now) + grace) // DAY) * DAY
            graves = [each for each in graves if (each[0], each[2]) != (user, until)] + [(user, stamp, until)]
    kept = log.connection.execute("SELECT count(*) FROM graves").fetchone()[0]
    keys = log.connection.execute("SELECT count(*) FROM grave_keys").fetchone()[0]
    assert (kept, keys) == (len(graves), len({until for _, _, until in graves}))
    log.close()


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 6), st.booleans()), min_size=1, max_size=12))
@settings(max_examples=20)
def test_lateness_does_not_depend_on_batches(tmp_path_factory: Any, rows: list[tuple[str, int, bool]]) -> None:
    """A forgetting counts for events that are on their way, though nothing is known of the user yet."""
    events = [
        Event("", user, "", "forget_user", START * 1000 + stamp)
        if forgets
        else Event("", user, "i", "like", START * 1000 + stamp)
        for user, stamp, forgets in rows
    ]
    log = EventLog(tmp_path_factory.mktemp("log") / "log.sqlite", settings=StateSettings(clock=Clock(START)))
    expected = log.graves.late(EventBatch.from_events(events)).tolist()
    found = []
    for event in events:
        batch = EventBatch.from_events([event])
        found += log.graves.late(batch).tolist()
        if not found[-1]:
            log.append(batch)
    log.close()
    assert found == expected


def test_a_grave_is_another_one_in_each_state(tmp_path: Path) -> None:
    """The digests of two directories do not show that one user was forgotten in both."""
    digests = []
    for name in "ab":
        (tmp_path / name).mkdir()
        log = EventLog(tmp_path / name / "log.sqlite", settings=StateSettings(clock=Clock(START)))
        log.append(EventBatch.from_events([Event("", "maria", "", "forget_user", START * 1000)]))
        digests += log.connection.execute("SELECT digest FROM graves").fetchall()
        log.close()
    assert len(set(digests)) == len(digests) == 2
