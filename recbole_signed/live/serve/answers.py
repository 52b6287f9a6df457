"""Answers of the service: rankings by raw ids with filters, variants and sessions, and what is told of them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl

from recbole_signed.api.explanations import explained
from recbole_signed.errors import UsageError
from recbole_signed.ids_and_times import day
from recbole_signed.live import LIKE, OnlineRecommender
from recbole_signed.live.events import DISLIKE, TYPES
from recbole_signed.live.learners.asked import Asked, ItemValues, under
from recbole_signed.live.learners.ranking import best_items, lowered_by, with_parameters
from recbole_signed.live.learners.ranking import explained as explained_by
from recbole_signed.live.replica import OnlineReplica
from recbole_signed.live.serve import ranking, schemas
from recbole_signed.live.serve.catalogue import Catalogue
from recbole_signed.live.serve.experiments import Assignment, Experiments, Policy, merged_parameters, team_draft
from recbole_signed.live.serve.quality import LiveQuality
from recbole_signed.live.serve.ranking import CANDIDATES, POOL, Ranked
from recbole_signed.live.serve.settings import ServeSettings
from recbole_signed.live.serve.telemetry import Telemetry
from recbole_signed.live.serve.traffic import DAY, ImpressionQueue, Shown, TrafficLog, now_ms

# gives the best items, so many, of a user under a policy, and their scores
RankOfPolicy = Callable[[Policy, int], tuple[Any, Any]]
TRENDING = "trending"  # name of the ranking by recent likes, beside `popularity`
SECOND = 1.0  # seconds between looks at the files of catalogue and experiments


class Answers:
    """What a model answers under the experiments on live traffic: the part of an engine that ranks and explains."""

    recommender: OnlineRecommender | OnlineReplica
    settings: ServeSettings
    experiments: Experiments
    telemetry: Telemetry
    quality: LiveQuality
    catalogue: Catalogue
    traffic: TrafficLog | None
    impressions: ImpressionQueue | None
    _looked: float

    def _look_again(self) -> None:
        """Read what another process, or a person, changed in catalogue and experiments; once a second at most."""
        now = time.monotonic()
        if now - self._looked > SECOND:
            self._looked = now
            if isinstance(self.recommender, OnlineReplica):  # the writer alone writes the catalogue
                self.catalogue.reload()
            self.experiments.reload()

    @property
    def _state(self) -> Any:
        if self.recommender.state is None:
            raise UsageError("the online state is closed.")
        return self.recommender.state

    @property
    def seq(self) -> int:
        """Seq of the newest event that answers reflect."""
        return int(self._state.applied_seq)

    @property
    def version(self) -> str:
        """Name of the model in force: its class and the seq up to which it was fitted or refreshed."""
        return str(self.recommender.version)

    def learner_for(
        self, learner: Any, assignments: Sequence[Assignment], given: Mapping[str, float] | None = None
    ) -> Any:
        """Return a learner with the parameters of the service, of variants, and of a request; the later ones hold."""
        strength = self.settings.dislike_strength
        own = {} if strength is None else {"dislike_strength": strength}
        return with_parameters(learner, {**own, **merged_parameters(assignments), **(given or {})})

    def item(self, item: str) -> schemas.CatalogueItem:
        """Return whether an item is withdrawn, its tags, and what people call it."""
        self._look_again()
        tags, name = list(self.catalogue[item]), self.catalogue.name(item)
        return schemas.CatalogueItem(item=item, withdrawn=item in self._state.withdrawn, tags=tags, name=name)

    def item_features(self, item: str) -> dict[str, Any] | None:
        """Return the features that were announced of an item; None without an announcement."""
        with self.recommender.reading() as (state, _):
            return ranking.announced_features(state, "item", item)

    def items_named(self, text: str, k: int) -> list[str]:
        """Return at most ``k`` items whose name holds a text."""
        self._look_again()
        return self.catalogue.search(text, k)

    def put_item(self, item: str, withdrawn: bool, tags: Sequence[str]) -> None:
        """Withdraw an item or let it return, and set its tags; it is on the disk when this returns."""
        writer: Any = self.recommender  # a replica hands such requests on
        if (item in self._state.withdrawn) != withdrawn:
            (writer.withdraw if withdrawn else writer.put_back)([item])
        self.catalogue.put(item, tags)

    def user(self, user: str) -> schemas.UserInfo:
        """Return what is held of a user."""
        with self.recommender.reading() as (state, learner):
            wishes = ranking.asked_by(state, learner, user)
            features, edges = ranking.announced_features(state, "user", user), ranking.newest_edges(state, user)[0]
            info = schemas.UserInfo(
                user=user,
                known=bool(edges) or features is not None,
                edges=[schemas.Edge(item=item, type=kind, timestamp=at) for item, kind, at in edges],
                features=features,
                wishes=wishes or None,
                seq=self.seq,
            )
        info.impressions = None if self.traffic is None else self.traffic.holding(user)
        return info

    def wishes_of(self, user: str) -> schemas.WishList:
        """Return what a user asks for beside verdicts and has not taken back."""
        with self.recommender.reading() as (state, learner):
            return schemas.WishList(wishes=ranking.asked_by(state, learner, user), seq=self.seq)

    def values_of(self, item: str) -> dict[str, list[str]]:
        """Return the values of an item by their column."""
        values: dict[str, list[str]] = {}
        with self.recommender.reading() as (state, learner):
            for column, value in ItemValues(state, learner).values_of(int(state.items.id_of(item))):
                values.setdefault(column, []).append(value)
        return values

    def recommend(
        self,
        user: str,
        k: int,
        *,
        exclude: Sequence[str] = (),
        include_only: Sequence[str] | None = None,
        tags: Sequence[str] | None = None,  # choose from items with any of these
        parameters: Mapping[str, float] | None = None,
        log: bool = True,  # keep the answer as impressions, and count it
    ) -> Ranked:
        """Rank for a user by its id, under its variants; ``parameters`` of the request hold over theirs."""
        self._look_again()
        with self.recommender.reading() as (state, learner):
            number, known, assignments = self._variants_of(state, user)
            filters = {**self._filters(exclude, include_only, tags), "asked": Asked.from_state(state, learner, number)}
            request = _request_id()
            mixed = next((arm for arm in assignments if self.experiments[arm.experiment].interleave), None)
            draws: list[tuple[str, str, float, float]] = []

            def rank(of: Assignment, policy: Policy, most: int) -> tuple[Any, Any]:
                theirs = [replace(arm, settings=policy) if arm is of else arm for arm in assignments]
                other = self.learner_for(learner, theirs, parameters)
                return self.rank(other, state, number, most, filters, theirs, new_items=False)

            own = self.learner_for(learner, [arm for arm in assignments if arm is not mixed], parameters)
            teams: dict[str | None, str] = {}
            if mixed is None:
                exploring = next((arm for arm in assignments if arm.settings.explore), None)
                most = k if exploring is None else max(k, CANDIDATES)
                best = self.rank(own, state, number, most, filters, assignments, new_items=False)
                if exploring is not None and len(best[0]):
                    order, draws = self._explored(exploring, partial(rank, exploring), *best, request)
                    best = best[0][order][:k], best[1][order][:k]
            else:
                best, teams = self._interleaved(mixed, partial(rank, mixed), state, k, request)
            # after the draw and the draft, in which they have no part
            items = self._named(state.items, *self._with_new_items(own, state, number, filters, best, k, assignments))
            by = [teams.get(item) for item, _ in items] if teams else None
            known = known or learner.knows(number)
            answer = Ranked(items, self.seq, self.version, known, assignments, by, request, draws)
        if log:
            self._keep(user, answer, mixed)
            self.telemetry.impressions.labels(answer.variant).inc(len(items))
        return answer

    def _variants_of(self, state: Any, user: str) -> tuple[int, bool, list[Assignment]]:
        """Return the number of a user, whether it has edges, and its variants."""
        number = state.users.id_of(user)
        known = state.edges.user_has_edges(number)
        return number, known, self.experiments.assign(user, known)

    def _keep(self, user: str, answer: Ranked, mixed: Assignment | None) -> None:
        whole = [(arm.experiment, arm.variant, arm.propensity) for arm in answer.assignments if arm is not mixed]
        own = [[(mixed.experiment, team, 0.5)] if mixed and team else [] for team in answer.teams or [None]]
        exposures = [[*of_item, *whole] for of_item in own]
        items = [item for item, _ in answer.items]
        if self.impressions is not None and self.settings.impressions:
            shown = Shown(answer.request_id, user, items, now_ms(), answer.version, exposures, answer.seq, answer.draws)
            self.impressions.put(shown)

    def _filters(
        self, exclude: Sequence[str], include_only: Sequence[str] | None, tags: Sequence[str] | None
    ) -> dict[str, Any]:
        chosen = None if include_only is None else self._ids(include_only)
        if tags is not None:
            tagged = self._ids(self.catalogue.with_tags(tags))
            chosen = tagged if chosen is None else np.intersect1d(chosen, tagged)
        hidden = self._state.hidden_items()
        return {"exclude": np.concatenate([hidden, self._ids(exclude)]) if exclude else hidden, "include_only": chosen}

    def _ids(self, items: Sequence[str]) -> Any:
        """Return the ids of known items; the others are in no list anyway."""
        ids = np.asarray(self._state.items.ids(items), dtype=np.int64)
        return ids[(ids > 0) & (ids < self._state.edges.n_items)]

    def rank(
        self,
        learner: Any,
        state: Any,
        user: int,
        k: int,
        filters: dict[str, Any],  # `exclude` and `include_only`, ids, and `asked`, what the user asks for
        assignments: Sequence[Assignment],
        *,
        new_items: bool = True,
    ) -> tuple[Any, Any]:
        """Return the best items under the variants of a user, and their scores; nothing is drawn or interleaved."""
        if new_items:
            ranked = self.rank(learner, state, user, k, filters, assignments, new_items=False)
            return self._with_new_items(learner, state, user, filters, ranked, k, assignments)
        young = next((arm.settings.young for arm in assignments if arm.settings.young), 0.0)
        if not young:
            return self._rank_by_model(learner, state, user, k, filters, assignments)
        items, scores = self._rank_by_model(learner, state, user, max(k, POOL), filters, assignments)
        first = items[:POOL]  # whatever k is, so that a policy does the same for lists of every length
        order, best = ranking.raised(
            np.asarray(scores[:POOL]), state.edges.item_likes[first] + state.edges.item_dislikes[first], young
        )
        items, scores = np.concatenate([first[order], items[POOL:]]), np.concatenate([best, scores[POOL:]])
        return items[:k], scores[:k]

    def new_slots(self, assignments: Sequence[Assignment]) -> int:
        """Return how many places of a list under some variants are kept for new items."""
        return max([self.settings.new_items.slots, *(arm.settings.new_slots for arm in assignments)])

    def _with_new_items(
        self,
        learner: Any,
        state: Any,
        user: int,
        filters: dict[str, Any],
        ranked: tuple[Any, Any],
        k: int,
        assignments: Sequence[Assignment],
    ) -> tuple[Any, Any]:
        """Return a list of ``k`` items whose last places new ones have, as far as they are not in it by themselves."""
        items, scores = ranked
        slots = min(self.new_slots(assignments), k - 1)
        if slots <= 0:
            return ranked
        few = state.edges.item_likes + state.edges.item_dislikes < self.settings.new_items.verdicts
        slots -= int(few[items].sum())
        if slots <= 0:
            return ranked
        chosen = filters["include_only"]
        new = np.flatnonzero(few) if chosen is None else chosen[few[chosen]]
        new = np.setdiff1d(new[new > 0], items)
        only = {**filters, "include_only": new}
        candidates, theirs = best_items(
            learner, state.edges, user, POOL, state.items.keys, user_keys=state.users.keys, **only
        )
        seed = int(state.users.keys[user]) % 2**63
        drawn = ranking.drawn_few(theirs, slots, np.random.default_rng([seed, now_ms() // DAY]))
        surplus = max(len(items) + len(drawn) - k, 0)  # of which none is new
        stays = np.delete(np.arange(len(items)), np.flatnonzero(~few[items])[::-1][:surplus])
        return np.concatenate([items[stays], candidates[drawn]]), np.concatenate([scores[stays], theirs[drawn]])

    def _rank_by_model(
        self, learner: Any, state: Any, user: int, k: int, filters: dict[str, Any], assignments: Sequence[Assignment]
    ) -> tuple[Any, Any]:
        counts, asked = self.counts(state, assignments), filters.get("asked")
        if counts is None:
            return best_items(learner, state.edges, user, k, state.items.keys, user_keys=state.users.keys, **filters)
        seen = state.edges.of_user(user).ids if 0 < user < state.edges.n_users else np.zeros(0, dtype=np.int64)
        if asked is not None:
            seen = np.union1d(seen, asked.hidden)
            counts = asked.moved(counts.astype(np.float64), None, float(np.median(counts)), learner.wish_strength)
        hidden = np.concatenate([filters["exclude"], seen]).astype(np.int64)
        return ranking.most_liked(counts, k, state.items.keys, hidden, filters["include_only"])

    def counts(self, state: Any, assignments: Sequence[Assignment]) -> np.ndarray | None:
        """Return the likes by which a variant ranks in the place of the model, ``[n_items]``; None where none does."""
        other = _without_model(assignments)
        return None if other is None else self._likes(state, other)

    def _explored(
        self, exploring: Assignment, rank: RankOfPolicy, items: Any, values: Any, request: str
    ) -> tuple[Any, list[tuple[str, str, float, float]]]:
        """Draw the first item; return the new order, and what each policy would have done."""
        own = ranking.probabilities(values[:CANDIDATES], exploring.settings.explore)
        place = int(np.random.default_rng(int(request, 16) % 2**63).choice(len(own), p=own))
        draws = []
        for name, policy in self.experiments[exploring.experiment].all_policies.items():
            probability = float(own[place])
            if name != exploring.variant:
                theirs, scores = rank(policy, CANDIDATES)
                probability = float(ranking.probabilities(scores, policy.explore)[theirs == items[place]].sum())
            draws.append((exploring.experiment, name, float(own[place]), probability))
        return np.r_[place, 0:place, place + 1 : len(items)], draws

    def _interleaved(
        self, mixed: Assignment, rank: RankOfPolicy, state: Any, k: int, request: str
    ) -> tuple[tuple[Any, Any], dict[str | None, str]]:
        variants = self.experiments[mixed.experiment].variants
        items, values = zip(*(rank(variant, k) for variant in variants.values()), strict=True)
        picks, teams = team_draft([ids.tolist() for ids in items], k, np.random.default_rng(int(request, 16) % 2**63))
        scores = [values[team][items[team] == item] for item, team in zip(picks, teams, strict=True)]
        by = dict(zip(state.items.tokens(picks), [list(variants)[team] for team in teams], strict=True))
        return (np.array(picks, dtype=np.int64), np.concatenate([[], *scores])), by

    @staticmethod
    def _named(vocabulary: Any, ids: Any, values: Any) -> list[tuple[str, float]]:
        tokens = vocabulary.tokens(ids.tolist())
        return [(token, value) for token, value in zip(tokens, values.tolist(), strict=True) if token is not None]

    def session(
        self, verdicts: Sequence[tuple[str, int]], k: int, *, exclude: Sequence[str] = (), **filters: Any
    ) -> Ranked:
        """Rank for somebody without an id, given by likes and dislikes, oldest first, which are kept nowhere."""
        self._look_again()
        with self.recommender.reading() as (state, learner):
            numbers = np.asarray(state.items.ids([item for item, _ in verdicts]), dtype=np.int64)
            kinds = np.array([kind for _, kind in verdicts], dtype=np.int8)
            known = (numbers > 0) & (numbers < state.edges.n_items)
            edges = ranking.session_edges(state.edges, numbers[known], kinds[known])
            chosen = self._filters(exclude, filters.get("include_only"), filters.get("tags"))
            changed = self.learner_for(learner, [], filters.get("parameters"))
            top = best_items(changed, edges, ranking.SESSION, k, state.items.keys, user_keys=state.users.keys, **chosen)
            any_known = bool(known.any())
            return Ranked(self._named(state.items, *top), self.seq, self.version, any_known, request_id=_request_id())

    def similar(self, item: str, k: int) -> Ranked:
        """Return the items nearest to one, best first; UsageError for an unknown one."""
        with self.recommender.reading() as (state, learner):
            number = ranking.item_number(state, item)
            hidden = self._state.hidden_items()
            ids, cosines = learner.similar(number, k + len(hidden), state.items.keys)
            stays = ~np.isin(ids, hidden) & (ids > 0)
            named = self._named(state.items, ids[stays][:k], cosines[stays][:k])
            return Ranked(named, self.seq, self.version, None, request_id=_request_id())

    def popular(self, k: int, name: str = "popularity") -> Ranked:
        """Return the most liked items; with the name ``trending`` those whose likes are recent."""
        with self.recommender.reading() as (state, _):
            named = self._named(
                state.items, *ranking.most_liked(self._likes(state, name), k, state.items.keys, state.hidden_items())
            )
            return Ranked(named, self.seq, self.version, None, request_id=_request_id())

    def _likes(self, state: Any, name: str) -> np.ndarray:
        """Return the likes of each item, ``[n_items]``: all of them, or with ``trending`` each by its age."""
        if name != TRENDING:
            return np.asarray(state.edges.item_likes)
        return ranking.without_rounding(state.edges.recent(self.settings.half_life, likes=True).counts)

    def _model_of(
        self,
        state: Any,
        learner: Any,
        user: str,
        given: Mapping[str, float] | None = None,
        team: str | None = None,
    ) -> tuple[int, Any, list[Assignment]]:
        """Return a user's number, the learner as its variants have it, and these; of an interleaved one, ``team``."""
        number, _, assignments = self._variants_of(state, user)
        holding = []
        for arm in assignments:
            experiment = self.experiments[arm.experiment]
            if not experiment.interleave:
                holding.append(arm)
            elif team in experiment.variants:
                holding.append(replace(arm, settings=experiment.variants[team]))
        return number, self.learner_for(learner, holding, given), holding

    def refuse_unexplained(self, user: str) -> None:
        """Raise UsageError, before a list is made and kept as shown, where the model asked for a user can't explain."""
        with self.recommender.reading() as (state, learner):
            if not _without_model(self._model_of(state, learner, user)[2]):
                ranking.refuse_unexplained(learner)

    def explain(
        self, user: str, items: Sequence[str], parameters: Mapping[str, float] | None = None, team: str | None = None
    ) -> dict[str, dict[str, Any]]:
        """Return why a user gets items, as :class:`~.schemas.Why`; nothing where its variant does not ask the model."""
        self._look_again()
        with self.recommender.reading() as (state, learner):
            number, learner, assignments = self._model_of(state, learner, user, parameters, team)
            if _without_model(assignments):
                return {}
            keys = state.users.keys, state.items.keys
            asked = Asked.from_state(state, learner, number)
            ranking.refuse_unexplained(learner)
            numbers = np.array([ranking.item_number(state, item) for item in items], dtype=np.int64)
            explanations = explained_by(learner, state.edges, number, numbers, keys, asked)
            settings, seq, version = learner.settings, self.seq, self.version
            edges = ranking.newest_edges(state, user)[0]
            own = np.unique(np.concatenate([row.items for row in explanations]))
            tokens = pl.Series([token or "" for token in state.items.tokens(own.tolist())], dtype=pl.String)
            reasons = [
                tuple({**wish.as_json(state.items), "value": of} for wish, of in row.reasons) for row in explanations
            ]
            held = under(asked, state.edges)
            met = np.isin(numbers, held.of_user(number).ids if 0 < number < held.n_users else [])
        # updates go on meanwhile
        dates = {edge: day(at) for edge, _, at in edges if at}
        by_item = {}
        for item, row, asked_for, seen in zip(items, explanations, reasons, met.tolist(), strict=True):
            fall = row.fall and replace(row.fall, cause=int(np.searchsorted(own, row.fall.cause)))
            here = replace(row, items=np.searchsorted(own, row.items), fall=fall, reasons=asked_for)
            shown = explained(here, settings, user, item, tokens, self.called, dates.get, seen)
            by_item[item] = {**ranking.why(here, shown), "seq": seq, "model": version}
        return by_item

    def explain_list(
        self, user: str, ranked: Ranked, parameters: Mapping[str, float] | None = None
    ) -> dict[str, dict[str, Any]]:
        """Return why a user gets the items of a list, of an interleaved one each as the variant that picked it says."""
        teams: Sequence[str | None] = ranked.teams or [None] * len(ranked.items)
        by_item: dict[str, dict[str, Any]] = {}
        for team in set(teams):
            items = [item for (item, _), of in zip(ranked.items, teams, strict=True) if of == team]
            by_item |= self.explain(user, items, parameters, team)
        return by_item

    def called(self, item: str) -> str:
        """Return an item as a sentence names it: by its id, and by its name where it has one."""
        name = self.catalogue.name(item)
        return item if name is None else f"{item} ({name})"

    def last_dislike(self, user: str, k: int) -> schemas.DislikeEffect:
        """Return the item of a user's newest dislike, with or without an end, and what it changes in the list."""
        self._look_again()
        with self.recommender.reading() as (state, learner):
            number, learner, assignments = self._model_of(state, learner, user)
            asked = Asked.from_state(state, learner, number)
            newest = ranking.before_dislike(state.edges, number, asked)
            if newest is None:
                return schemas.DislikeEffect(item=None, gone=[], come=[], lowered=[])
            item, earlier, others = newest
            states = (state, asked), (SimpleNamespace(edges=earlier, items=state.items, users=state.users), others)
            filters = self._filters((), None, None)
            both = [self.rank(learner, view, number, k, {**filters, "asked": own}, assignments) for view, own in states]
            now, before = ([token for token, _ in self._named(state.items, *ranked)] for ranked in both)
            keys = state.users.keys, state.items.keys
            edges = under(asked, state.edges)
            near = [] if _without_model(assignments) else lowered_by(learner, edges, number, item, keys)
            name, *fallen = state.items.tokens([item, *near])
            lowered = [token for token in fallen if token in now or token in before]
        was, place = ({token: number for number, token in enumerate(ranked, 1)} for ranked in (before, now))
        return schemas.DislikeEffect(
            item=name,
            gone=[token for token in before if token not in place],
            come=[token for token in now if token not in was],
            lowered=[schemas.LoweredItem(item=token, before=was.get(token), now=place.get(token)) for token in lowered],
        )

    def verdicts_of(self, user: str, k: int, sign: str | None = None) -> schemas.Verdicts:
        """Return the likes and dislikes of a user, newest first; those of one sign where it is given."""
        kinds = (LIKE, DISLIKE) if sign is None else (TYPES[sign],)
        with self.recommender.reading() as (state, _):
            edges, total = ranking.newest_edges(state, user, kinds, k)
            listed = [schemas.Verdict(item=item, sign=kind, timestamp=at) for item, kind, at in edges]  # type: ignore[arg-type]
            return schemas.Verdicts(verdicts=listed, total=total, seq=self.seq)

    def audience(self, item: str, k: int) -> schemas.Audience:
        """Return the users, among a sample of those with edges and none to the item, that rank it highest."""
        with self.recommender.reading() as (state, learner):
            users, below = ranking.audience(learner, state.edges, ranking.item_number(state, item), k)
            named = self._named(state.users, users, below)
            return schemas.Audience(users=[schemas.Listener(user=user, percentile=value) for user, value in named])


_ids = random.Random()  # seeded by the system once: to ask it for each answer takes long on some systems


def _request_id() -> str:
    """Return an id that no other answer has, of any process: 128 bits, which are no secret."""
    return f"{_ids.getrandbits(128):032x}"


def _without_model(assignments: Sequence[Assignment]) -> str | None:
    """Return the ranking by likes that a variant puts in the place of the model; None where none does."""
    return next((arm.settings.model for arm in assignments if arm.settings.model), None)
