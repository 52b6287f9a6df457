"""What is done about verdicts when they arrive: each is ranked before it is learned, then told to the impressions."""

from __future__ import annotations

import logging
import random
from typing import Any

import numpy as np

from recbole_signed.live import LIKE, EventBatch
from recbole_signed.live.events import DISLIKE, FORGET_USER
from recbole_signed.live.learners.asked import Asked
from recbole_signed.live.serve import ranking
from recbole_signed.live.serve.answers import Answers
from recbole_signed.live.serve.quality import Case
from recbole_signed.live.serve.traffic import ImpressionQueue, now_ms

_logger = logging.getLogger(__name__)


class VerdictWatch:
    """Called by the writer, before and after each batch.

    Args:
        answers: whose live quality is kept up.
        impressions: that are told what came of them; None without them.
    """

    def __init__(self, answers: Answers, impressions: ImpressionQueue | None) -> None:
        self._answers, self._impressions = answers, impressions
        self.taken = self.unknown = 0
        """Verdicts that were looked up, and those of them that were on items not known before."""
        self._random = random.Random()
        self._judged: list[tuple[int, bool, Case | None]] = []
        """Of the batch under way: places of verdicts, whether their items are known, and their cases."""

    def before(self, batch: EventBatch) -> None:
        """Hold the verdicts of a batch against the lists that their users would get now; forget whom it forgets.

        In an interleaved experiment that is the list of the one variant that is drawn for the user. What was shown to
        those who are forgotten goes first: once their erasure is in the log, nobody could name them any more.
        """
        self._judged = []
        if self._impressions is not None and (batch.type == FORGET_USER).any():
            with self._answers.trainer.reading() as (state, _):
                pass  # which is not held while the state is waited for
            for i in state.forgettings(batch).tolist():
                self._impressions.forget(batch.user_id[i], self._answers.seq + 1)
        share, most = self._answers.settings.quality.sample, self._answers.settings.quality.per_commit
        chosen = np.flatnonzero((batch.type == LIKE) | (batch.type == DISLIKE)).tolist()
        if share < 1:
            chosen = [i for i in chosen if self._random.random() < share]
        chosen = sorted(self._random.sample(chosen, most)) if len(chosen) > most else chosen
        lists: dict[str, np.ndarray] = {}
        for i in chosen:  # one at a time: answers are not held up for the whole batch
            try:
                with self._answers.trainer.reading() as (state, learner):
                    self._judge(state, learner, batch, i, lists)
            except Exception:  # live quality must not stop events
                _logger.exception("a verdict could not be held against the list of its user")

    def _judge(self, state: Any, learner: Any, batch: EventBatch, i: int, lists: dict[str, np.ndarray]) -> None:
        """Hold one verdict against the list of its user, which is kept in ``lists``, by the user's id.

        Users who are not known yet have one number, and may have several variants.
        """
        answers, edges = self._answers, state.edges
        user, item = int(state.users.ids([batch.user_id[i]])[0]), int(state.items.ids([batch.item_id[i]])[0])
        row = edges.of_user(user) if 0 < user < edges.n_users else None
        known = 0 < item < edges.n_items
        if not known or (row is not None and item in row.ids):
            # nobody could have been shown an unknown item; a judged one is in no list
            self._judged.append((i, known, None))
            return
        assignments = answers.experiments.assign(batch.user_id[i], row is not None and len(row.ids) > 0)
        changed = answers.learner_for(learner, assignments)
        name = batch.user_id[i]
        if name not in lists:
            filters = {"exclude": answers.hidden(), "include_only": None, "asked": Asked.of(state, changed, user)}
            lists[name] = answers.rank(changed, state, user, answers.quality.k, filters, assignments)[0]
        found = np.flatnonzero(lists[name] == item)
        case = Case(
            sign=1 if batch.type[i] == LIKE else -1,
            position=int(found[0]) if len(found) else None,
            percentile=ranking.percentile(changed, edges, user, item, answers.counts(state, assignments)),
            version=answers.version,
            variant=",".join(f"{each.experiment}={each.variant}" for each in assignments),
            edges=0 if row is None else len(row.ids),
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
            with self._answers.trainer.reading() as (state, _):  # what the log holds, also after a failure
                self._impressions.reach(state.applied_seq)
        verdicts = []
        for i in np.flatnonzero(accepted).tolist():
            kind = int(batch.type[i])
            if kind in (LIKE, DISLIKE):
                sign, time = 1 if kind == LIKE else -1, int(batch.timestamp[i])
                verdicts.append((batch.user_id[i], batch.item_id[i], sign, time))
        if verdicts:
            self._impressions.outcomes(verdicts, self._count_outcomes)

    def _count_outcomes(self, likes: int, dislikes: int) -> None:
        for name, count in (("like", likes), ("dislike", dislikes)):
            self._answers.telemetry.outcomes.labels(name).inc(count)
