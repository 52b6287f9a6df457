"""The engine of the service: answers, and what keeps them current and watches them.

Before the writer takes a verdict, it is held against the list that its user would have got (`VerdictWatch`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import re
import shutil
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from recbole_signed.errors import UsageError
from recbole_signed.files import stamp
from recbole_signed.live import LIKE, EventBatch, OnlineRecommender
from recbole_signed.live.events import DISLIKE, FORGET_USER
from recbole_signed.live.learners.asked import Asked
from recbole_signed.live.learners.ranking import with_parameters
from recbole_signed.live.replica import Follower, OnlineReplica
from recbole_signed.live.serve import catalogue, ranking, traffic
from recbole_signed.live.serve.answers import TRENDING, Answers
from recbole_signed.live.serve.catalogue import Catalogue
from recbole_signed.live.serve.experiments import Experiments, Policy
from recbole_signed.live.serve.quality import Case, LiveQuality, RecentShare
from recbole_signed.live.serve.settings import ServeSettings
from recbole_signed.live.serve.telemetry import Telemetry
from recbole_signed.live.serve.traffic import ImpressionQueue, TrafficLog, now_ms
from recbole_signed.live.serve.writer import Feed, Writer
from recbole_signed.live.sources import open_source
from recbole_signed.live.store.backup import BACKUPS, noted
from recbole_signed.memory import memory_bytes

_logger = logging.getLogger(__name__)
RECOMMENDATIONS = "/v1/users/{user_id}/recommendations"


class Engine(Answers):
    """What the routes call, from any thread; nobody else writes to ``recommender``, and a replica takes no events."""

    def __init__(
        self,
        recommender: OnlineRecommender | OnlineReplica,
        settings: ServeSettings | None = None,
        experiments: Experiments | None = None,
        folder: Path | None = None,  # of catalogue and impressions; None keeps the catalogue in memory
    ) -> None:
        self.recommender, self._folder = recommender, folder
        self.settings = settings or ServeSettings()
        self.experiments = experiments or Experiments()
        self.experiments.refuse_by(self._refuse_unfit)
        self.telemetry = Telemetry()
        self.quality = LiveQuality(self.settings.quality.k)
        self.catalogue = Catalogue(None if folder is None else folder / catalogue.FILE)
        log = None if folder is None else folder / traffic.FILE
        # what was kept before impressions were switched off grows old, is told and is erased as before, by the writer
        kept = log is not None and (self.settings.impressions or log.exists())
        looks = not self.settings.impressions and isinstance(recommender, OnlineReplica)
        self.traffic = TrafficLog(log, read_only=looks) if kept and log is not None else None
        self._looked = time.monotonic()
        age = round(self.settings.keep_impressions * traffic.DAY) or None
        self.impressions = None if self.traffic is None or looks else ImpressionQueue(self.traffic, age)
        with recommender.reading() as (state, _):
            self._likes(state, TRENDING)  # counts all edges the first time
            _ = state.items.keys  # hashes all items the first time
        self._known_paths: tuple[tuple[int, int, int] | None, list[str]] | None = None
        limits = self.settings.limits
        self.writer: Writer | None = None
        self.verdicts: VerdictWatch | None = None
        self.follower: Follower | None = None
        self.feed: Feed | None = None
        self._dislike_rate, self._unknown_items = RecentShare(), RecentShare()
        if isinstance(recommender, OnlineReplica):
            self.follower = Follower(recommender)
        else:
            if self.impressions is not None:
                self.impressions.reach(self.seq)
            watch = self.verdicts = VerdictWatch(self, recommender, self.impressions)
            self.writer = Writer(recommender, self.telemetry, watch.before, watch.after, limits.queue, limits.commit)
            if self.settings.source is not None:
                self.feed = Feed(open_source(self.settings.source), self.writer)
        self.telemetry.watch(self.gauges, lambda: self.quality.figures(now_ms(), "version"))

    def _refuse_unfit(self, policy: Policy) -> None:
        """Raise UsageError where the model has not all the parameters of a policy."""
        with self.recommender.reading() as (_, learner):
            with_parameters(learner, policy.parameters)

    def close(self) -> None:
        """Finish what waits, then stop; the recommender stays open."""
        for thread in (self.feed, self.writer, self.follower):
            if thread is not None:
                thread.close()
        if self.impressions is not None:
            self.impressions.close()
        self.catalogue.close()
        if self.traffic is not None:
            self.traffic.close()

    def reasons_not_ready(self) -> list[str]:
        """Return why answers may not be current; nothing where they are."""
        reasons = []
        if self.writer is not None:
            if self.writer.failure is not None:
                reasons.append(f"events can't be taken: {self.writer.failure}")
            if not self.writer.alive:
                reasons.append("the writer has stopped")
            if self.waiting >= self.settings.limits.queue:
                reasons.append("the queue of events is full")
        if self.feed is not None and self.feed.failure is not None:
            reasons.append(f"the stream can't be read: {self.feed.failure}")
        if self.follower is not None and self.follower.failure is not None:
            reasons.append(f"the log can't be followed: {self.follower.failure}")
        if self.lag > self.settings.limits.lag:
            reasons.append(f"answers may be {self.lag:.1f} s behind the log")
        return [self.without_folders(reason) for reason in reasons]

    def without_folders(self, text: str) -> str:
        """Return a message as clients are told it: files of the state, and others of the settings, by their names."""
        for path in self._paths() if os.sep in text else ():
            here = rf"(?<![\w.-]){re.escape(path)}"  # not within an id
            name = os.path.basename(path).replace("\\", r"\\")
            text = re.sub(rf"{here}\b", name, re.sub(f"{here}{os.sep}", "", text))
        return text

    def _paths(self) -> list[str]:
        """Return the paths that messages may begin with, longest first; looked up seldom, as a disk may hang."""
        register = stamp(self.recommender.directory / BACKUPS)
        if self._known_paths is None or self._known_paths[0] != register:
            self._known_paths = register, self._find_paths()
        return self._known_paths[1]

    def _find_paths(self) -> list[str]:
        state, settings = self.recommender.directory, self.settings
        backup = settings.backup
        folders = (state, self._folder, settings.experiments, backup, None if backup is None else backup.parent)
        given = [folder for folder in folders if folder is not None]
        with contextlib.suppress(UsageError, OSError):  # its message is told where the file is needed
            given += [entry.path for entry in noted(state)]
        forms = {str(form) for path in given for form in (path, path.absolute(), path.resolve())} - {os.sep}
        return sorted((form for form in forms if os.sep in form), key=len, reverse=True)

    @property
    def waiting(self) -> int:
        """Number of events that wait for the writer; 0 in a replica."""
        return 0 if self.writer is None else self.writer.waiting

    @property
    def lag(self) -> float:
        """Most seconds that a replica may be behind the log: since its last look began that ended; 0 in the writer."""
        return 0.0 if self.follower is None else time.monotonic() - self.follower.looked

    def status(self) -> dict[str, Any]:
        """Return sizes, latencies and rates for the page."""
        state = self._state
        return {
            "users": state.users.n_known,
            "items": state.edges.n_items - 1,
            "edges": len(state.edges),
            "waiting": self.waiting,
            "answer_p99": self.telemetry.quantile(self.telemetry.requests, 0.99, route=RECOMMENDATIONS),
            "visible_p99": self.telemetry.quantile(self.telemetry.visible, 0.99),
            "resident_bytes": memory_bytes()[0],
            "dislike_rate": self._dislikes()[0],
            "unknown_item_share": self._unknown()[0],
            "pending_erasure": self._pending_erasure(),
        }

    def _dislikes(self) -> tuple[float | None, float]:
        """Return the last hour's dislikes per item shown, and the number of these; none in a replica."""
        if self.verdicts is None:
            return None, 0.0
        shown = 0 if self.traffic is None else self.traffic.added()  # outcomes too are those of all processes
        return self._dislike_rate.update(self.telemetry.total(self.telemetry.outcomes, sign="dislike"), shown)

    def _unknown(self) -> tuple[float | None, float]:
        """Return the share of verdicts of the last hour on items that were not known, and the number of verdicts."""
        judged = self.verdicts
        return (None, 0.0) if judged is None else self._unknown_items.update(judged.unknown, judged.taken)

    def _disk(self) -> tuple[float | None, float | None]:
        """Return the size of the file system that the state is on, and what is free of it."""
        if self._folder is not None:
            with contextlib.suppress(OSError):  # gone, or not reached
                size, _, free = shutil.disk_usage(self._folder)
                return size, free
        return None, None

    def _pending_erasure(self) -> dict[str, Any] | None:
        """Return what is left of users who were forgotten; None in a replica, which does not know."""
        if not isinstance(self.recommender, OnlineRecommender):
            return None
        left = self.recommender.pending_erasure
        return asdict(replace(left, reasons=tuple(map(self.without_folders, left.reasons))))

    def gauges(self) -> dict[str, tuple[str, float | None]]:
        """Return the gauges of the metrics route: name -> help text and value, None where there is none."""
        status = self.status()
        behind = None if self.feed is None else self.feed.behind
        size, free = self._disk()
        return {
            "users": ("Users that are known.", status["users"]),
            "items": ("Items that are known.", status["items"]),
            "edges": ("Edges in force.", status["edges"]),
            "queue_events": ("Events that wait for the writer.", status["waiting"]),
            "seq": ("Seq that answers reflect.", self.seq),
            "stream_behind_events": ("Events of the stream that are not read yet.", behind),
            "process_pid": ("Number of the process.", os.getpid()),
            "lag_seconds": ("How far answers are behind the log.", self.lag),
            "resident_memory_bytes": ("Resident memory of the process.", status["resident_bytes"]),
            "disk_bytes": ("Size of the file system of the state.", size),
            "disk_free_bytes": ("What is free of it.", free),
            "ready": ("1: answers are current.", float(not self.reasons_not_ready())),
            **({} if self.verdicts is None else self._gauges_of_writer(status["pending_erasure"])),
        }

    def _gauges_of_writer(self, left: dict[str, Any]) -> dict[str, tuple[str, float | None]]:
        """Return the gauges of what a replica does not know."""
        (dislikes, shown), (unknown, verdicts), alerts = self._dislikes(), self._unknown(), self.settings.quality
        many_dislikes = shown >= alerts.alert_cases and (dislikes or 0.0) > alerts.alert_dislike_rate
        waits = 0.0 if left["since"] is None else max(now_ms() - left["since"], 0) / 1000
        many_unknown = verdicts >= alerts.alert_cases and (unknown or 0.0) > alerts.alert_unknown_items
        return {
            "unknown_item_share": ("Share of verdicts on items that were not known, last hour.", unknown or 0.0),
            "dislikes_per_impression": ("Dislikes on shown items per item shown, last hour.", dislikes or 0.0),
            "alert_unknown_items": ("1: above its threshold.", float(many_unknown)),
            "alert_dislike_rate": ("1: above its threshold.", float(many_dislikes)),
            "pending_erasures": ("Forgotten users of whom something is left.", max(left["rows"], left["factors"])),
            "pending_erasure_seconds": ("How long ago the first of them was forgotten.", waits),
        }


class VerdictWatch:
    """Called by the writer, before and after each batch."""

    def __init__(self, answers: Answers, recommender: OnlineRecommender, impressions: ImpressionQueue | None) -> None:
        self._answers, self._recommender, self._impressions = answers, recommender, impressions
        self.taken = self.unknown = 0  # verdicts looked up, and those of them on items not known before
        self._random = random.Random()
        # of the batch under way: places of verdicts, whether their items are known, and their cases
        self._judged: list[tuple[int, bool, Case | None]] = []

    def before(self, batch: EventBatch) -> None:
        """Hold verdicts against the lists that their users would get now; forget whom the batch forgets."""
        # first what was shown to the forgotten: once the erasure is in the log, nobody could name them
        self._judged = []
        if self._impressions is not None and (batch.type == FORGET_USER).any():
            for i in self._recommender.current().forgettings(batch).tolist():
                self._impressions.forget(batch.user_id[i], self._answers.seq + 1)
        share, most = self._answers.settings.quality.sample, self._answers.settings.quality.per_commit
        chosen = np.flatnonzero((batch.type == LIKE) | (batch.type == DISLIKE)).tolist()
        if share < 1:
            chosen = [i for i in chosen if self._random.random() < share]
        chosen = sorted(self._random.sample(chosen, most)) if len(chosen) > most else chosen
        lists: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for i in chosen:  # one at a time: answers are not held up for the whole batch
            try:
                with self._answers.recommender.reading() as (state, learner):
                    self._judge(state, learner, batch, i, lists)
            except Exception:  # live quality must not stop events
                _logger.exception("a verdict could not be held against the list of its user")

    def _judge(self, state: Any, learner: Any, batch: EventBatch, i: int, lists: dict[str, Any]) -> None:
        """Hold one verdict against its user's list, with and without places for new items; ``lists`` keeps both."""
        answers, edges = self._answers, state.edges
        user, item = int(state.users.ids([batch.user_id[i]])[0]), int(state.items.ids([batch.item_id[i]])[0])
        row = edges.of_user(user) if 0 < user < edges.n_users else None
        # of an interleaved experiment the one variant that is drawn for the user
        assignments = answers.experiments.assign(batch.user_id[i], row is not None and len(row.ids) > 0)
        changed = answers.learner_for(learner, assignments)
        known, hidden, asked = 0 < item < edges.n_items, state.hidden_items(), Asked.from_state(state, changed, user)
        held_back = [hidden, [] if row is None else row.ids, [] if asked is None else asked.hidden]
        if not known or any(item in items for items in held_back):
            # nobody could have been shown an unknown item; a judged, hidden or withdrawn one is in no list
            self._judged.append((i, known, None))
            return
        name = batch.user_id[i]  # unknown users have one number, and may have several variants
        if name not in lists:
            filters = {"exclude": hidden, "include_only": None, "asked": asked}
            ranked = partial(answers.rank, changed, state, user, answers.quality.k, filters, assignments)
            items = ranked()[0]
            lists[name] = items, ranked(new_items=False)[0] if answers.new_slots(assignments) else items
        places, by_itself = (np.flatnonzero(listed == item) for listed in lists[name])
        case = Case(
            sign=1 if batch.type[i] == LIKE else -1,
            position=int(places[0]) if len(places) else None,
            percentile=ranking.percentile(changed, edges, user, item, answers.counts(state, assignments)),
            version=answers.version,
            variant=",".join(f"{assignment.experiment}={assignment.variant}" for assignment in assignments),
            edges=0 if row is None else len(row.ids),
            on_new_slot=len(places) > len(by_itself),
        )
        self._judged.append((i, True, case))

    def after(self, batch: EventBatch, accepted: np.ndarray) -> None:
        """Count the cases of what was accepted; tell the log of impressions what came of them."""
        judged = [(known, case) for i, known, case in self._judged if accepted[i]]
        self.taken += len(judged)
        self.unknown += sum(not known for known, _ in judged)
        self._answers.quality.add([case for _, case in judged if case is not None], now_ms())
        if self._impressions is None:
            return
        if (batch.type == FORGET_USER).any():
            self._impressions.reach(self._recommender.current().applied_seq)  # what the log holds, also after a failure
        places = np.flatnonzero(accepted & ((batch.type == LIKE) | (batch.type == DISLIKE)))
        signs, times = np.where(batch.type == LIKE, 1, -1).tolist(), batch.timestamp.tolist()
        if verdicts := [(batch.user_id[i], batch.item_id[i], signs[i], times[i]) for i in places.tolist()]:
            self._impressions.outcomes(verdicts, self._count_outcomes)

    def _count_outcomes(self, likes: int, dislikes: int) -> None:
        for name, count in (("like", likes), ("dislike", dislikes)):
            self._answers.telemetry.outcomes.labels(name).inc(count)
