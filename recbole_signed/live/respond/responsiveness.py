"""Is a dislike felt? An audit of what one event does to a user's list, how long it lasts, and what undoes it.

Each probe goes the way of a served event. *Similar* are the ten items whose likes in training are most like those of an
item (cosine) and that the user has no edge to; its *cluster* are the fifty nearest. For some users, each from the state
of the start:

1. **Bite.** Shown items are disliked, 1, 3 and 10: how many similar ones stay in the list, and lose places?
2. **Locality.** What was lost that is not of the cluster, or that is nearer to a like than to the dislike?
3. **Persistence.** What is left after likes of far items, of the nearest similar item, and after views?
4. **Undo.** After each step all is taken back: is every list and score as before, to the last bit?
5. **A like of another kind**, and what it moves; with a feature of the items, asking for less and more of a value.

How far a list moves is the rank-biased overlap of both (Webber, Moffat & Zobel, TOIS 2010), 1 for equal lists.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recbole_signed import __version__
from recbole_signed.atomic.feature_file import read_side
from recbole_signed.errors import UsageError, argument
from recbole_signed.live import Event, OnlineRecommender
from recbole_signed.live.learners import make_learner
from recbole_signed.live.learners.base import graph_of, learner_of
from recbole_signed.live.learners.ranking import ranked_scores
from recbole_signed.live.respond.responsiveness_table import DISLIKES, N_CLUSTER, NEUTRAL, Probes, Shown, summary
from recbole_signed.live.trainer import LiveModel, base_of
from recbole_signed.runs.fitted import fit_to_measure, kept_or_made, measured, origin_of
from recbole_signed.ssf.validation import drawn

IntArray = npt.NDArray[np.int64]
N_NEIGHBOURS = 10  # items that count as more of the same
PERSISTENCE = 0.9  # p of the rank-biased overlap: the first 10 places have 86 % of the weight
METRICS = ("NDCG", "Recall", "DislikeRecall", "SignAUC")  # of the live learner's ranking, on the test part


def overlap(one: Sequence[int], other: Sequence[int], p: float = PERSISTENCE) -> float:
    """Return the extrapolated rank-biased overlap of two lists (Webber et al. 2010, eq. 30)."""
    k = min(len(one), len(other))
    if not k:
        return 1.0
    seen_one: set[int] = set()
    seen_other: set[int] = set()
    total, shared = 0.0, 0
    for depth, (left, right) in enumerate(zip(one[:k], other[:k], strict=True), 1):
        seen_one.add(left)
        seen_other.add(right)
        shared = len(seen_one & seen_other)
        total += shared / depth * p**depth
    return shared / k * p**k + (1 - p) / p * total


def respond(
    model: str,
    dataset: str,
    config_files: Sequence[str | Path] = (),
    overrides: Mapping[str, Any] | None = None,
    seed: int | None = None,
    *,
    n_users: int = 100,
    k: int = 20,
    feature: str | None = None,
    values: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Audit a model on a data set: train it, let its live learner follow the training part, and probe some users.

    Args:
        model: class name of a model with a live learner.
        dataset: name of a data set.
        config_files: RecBole yaml files, later ones win.
        overrides: configuration keys above the files.
        seed: RecBole's ``seed``, and that of the probes.
        n_users: users that are probed, drawn by their names.
        k: length of the list, and of the metrics.
        feature: a column of the items' features, whose values users ask for less and more of.
        values: configuration keys below the files.

    Returns:
        ``model``, ``dataset``, ``seed``, ``k``, what the numbers come from, ``test`` (what the live learner's ranking
        has on the test part, empty where there is none), ``probes`` (one per user, see :class:`Probes`), ``summary``
        of them, and with a feature ``wishes``, see :func:`~.responsiveness_table.wishes_table`.

    Raises:
        UsageError: the model has no live learner, or something asked for does not exist or does not fit.
    """
    for name, value in ((argument("n_users", option="--users"), n_users), (argument("k"), k)):
        if value < 1:
            raise UsageError(f"{name} is {value}; it must be 1 or more.")
    make_learner(model)  # a model without a live learner is refused before it is trained
    fitted = fit_to_measure(model, dataset, METRICS, k, config_files, overrides, seed, values)
    origin, test = origin_of(fitted), {}
    wishes: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        learner, state = learner_of(fitted.model, fitted.config), Path(folder) / "state"
        begun = OnlineRecommender.begin(state, learner, *base_of(fitted.train_data._dataset), unit_known=True)
        with contextlib.closing(begun) as live:
            if len(fitted.test_data.dataset.inter_feat):
                fitted.trainer.model = LiveModel(live, fitted.test_data._dataset, fitted.trainer.device)
                test = measured(fitted, fitted.test_data, METRICS, k)
            audit = _Audit(live, origin["seed"], k)
            probes = audit.of_users(n_users)
            if feature is not None:
                wishes = {"wishes": audit.wishes(feature, _words(fitted.config, feature), n_users)}
    return {
        **origin,
        "k": k,
        "settings": {**origin["settings"], "dislike_strength": learner.dislike_strength},
        "package": __version__,
        "test": test,
        "summary": summary(probes),
        **wishes,
        "probes": [asdict(probe) for probe in probes],
    }


class _Audit:
    """Probes users of a live model, which is left as it was but for what they viewed."""

    def __init__(self, live: Any, seed: int, k: int) -> None:
        self.live, self.seed, self.k = live, seed, k
        with live.reading() as (state, _):
            edges = state.edges.export()
            self.users, self.items = state.edges.n_users, state.edges.n_items
            self.names = ["", *state.users.tokens(range(1, self.users))]
            self.item_names = ["", *state.items.tokens(range(1, self.items))]
        self.likes = graph_of(edges, self.users, self.items).likes
        self.by_item = self.likes.T.tocsr()
        self.n_likes = np.diff(self.by_item.indptr)
        self.n_edges = np.bincount(edges.user, minlength=self.users)
        self.clock = max(int(edges.timestamp.max(initial=0)), 0)

    def of_users(self, n_users: int) -> list[Probes]:
        """Probe so many of the users with a like and something left to be shown; all of them where there are fewer."""
        chosen = self._drawn(n_users)
        return [self._probe(user, np.random.default_rng([self.seed, place])) for place, user in enumerate(chosen)]

    def _drawn(self, n_users: int) -> list[int]:
        known = np.flatnonzero((np.diff(self.likes.indptr) > 0) & (self.n_edges < self.items - 1))
        return drawn(known, n_users, np.array([self.names[user] for user in known], dtype=object)).tolist()

    def wishes(self, feature: str, words: Mapping[str, list[str]], n_users: int) -> dict[str, Any]:
        """Ask for less and more of values of a feature; give the mean share of the list before, after and undone."""

        def say(user: str, kind: str, value: str) -> list[tuple[str, float]]:
            self.clock += 1
            self.live.update([Event("", user, "", kind, self.clock, features={feature: value})])
            ranked: list[tuple[str, float]] = self.live.recommend(user, self.k)
            return ranked

        known = {name: words[name] for name in self.item_names if words.get(name)}
        self.live.update(
            [Event("", "", name, "item", self.clock, features={feature: own}) for name, own in known.items()]
        )
        counts: dict[str, list[tuple[int, int]]] = {"less": [], "more": []}
        undone = []
        for user in (self.names[number] for number in self._drawn(n_users)):
            before = self.live.recommend(user, self.k)
            shown = Counter(value for name, _ in before for value in known.get(name, ()))
            if not shown:
                continue
            order = sorted(shown, key=lambda value: (-shown[value], value))
            for kind, value in (("less", order[0]), ("more", order[-1])):
                after = say(user, kind, value)
                counts[kind].append((shown[value], sum(value in known.get(name, ()) for name, _ in after)))
                undone.append(say(user, "undo", value) == before)
        means = {kind: [float(mean) for mean in np.mean(pairs, axis=0)] for kind, pairs in counts.items() if pairs}
        return {"feature": feature, "users": len(counts["less"]), **means, "undone": float(np.mean(undone or [1]))}

    def _probe(self, user: int, rng: np.random.Generator) -> Probes:
        return _Probe(self, user, rng).made()

    def add_events(self, user: int, *events: tuple[IntArray, str]) -> None:
        """Take in events of a user as one batch: of each kind some items."""
        batch = []
        for items, kind in events:
            for item in items.tolist():
                self.clock += 1
                batch.append(Event("", self.names[user], self.item_names[item], kind, self.clock))
        self.live.update(batch)

    def scores(self, user: int) -> np.ndarray:
        """Return what a user's items are ranked by, ``[n_items]``; minus infinity where there is an edge."""
        with self.live.reading() as (state, learner):
            ranked = ranked_scores(learner, state.edges, np.array([user]), (state.users.keys, state.items.keys))
            scores = ranked[0, : self.items].double().numpy().copy()
            scores[state.edges.of_user(user).ids.astype(np.int64)] = -np.inf
        scores[0] = -np.inf
        return scores

    def alike(self, items: IntArray) -> np.ndarray:
        """Return the cosines of the likes of items with those of all, ``[len(items), n_items]``; 0 with themselves."""
        cosines = (self.by_item[items] @ self.likes).toarray()
        cosines /= np.sqrt(np.maximum(np.outer(self.n_likes[items], self.n_likes), 1.0))
        cosines[np.arange(len(items)), items] = 0.0
        return np.asarray(cosines)

    def another_kind(self, user: int, new: npt.NDArray[np.bool_], rng: np.random.Generator) -> int:
        """Return a popular new item that shares no user with what this user liked; 0: there is none."""
        reach = (self.likes[[user]] @ self.by_item @ self.likes).toarray()[0]
        far = np.flatnonzero((reach == 0) & (self.n_likes > 1))
        if not len(far):  # in a dense set everything is near: what the user's items have least in common with
            share = np.where((self.n_likes > 1) & new, reach / np.maximum(self.n_likes, 1), np.inf)
            far = np.argsort(share, kind="stable")[: max(1, self.items // 50)]
            far = far[np.isfinite(share[far])]
        far = far[new[far]]
        popular = far[self.n_likes[far] >= np.median(self.n_likes[far])] if len(far) else far
        return int(rng.choice(popular)) if len(popular) else 0


class _Probe:
    """The probes of one user."""

    def __init__(self, audit: _Audit, user: int, rng: np.random.Generator) -> None:
        self.audit, self.user, self.rng, self.k = audit, user, rng, audit.k
        self.scores = audit.scores(user)
        self.new = np.isfinite(self.scores)
        self.shown = _best(self.scores, self.k)
        self.disliked = self.shown[[rng.integers(len(self.shown))]]
        self.alike = audit.alike(self.disliked)[0]
        self.nearest = self._nearest(self.alike)
        self.similar, self.cluster = self.nearest[:N_NEIGHBOURS], self.nearest[:N_CLUSTER]
        self.undone: list[np.ndarray] = []
        self.seconds: list[float] = []

    def made(self) -> Probes:
        """Make them all; views come last."""
        bite = self._bite()
        far, disliked = self._far(), (self.disliked, "dislike")
        ends = [end for end in NEUTRAL if end <= len(far)]
        likes, views = (
            [(far[start:end], kind) for start, end in zip([0, *ends], ends, strict=False)] for kind in ("like", "view")
        )
        alone, with_dislike = self._after(*likes), self._after(disliked, *likes)[1:]
        lasting = [self._shown(*pair) for pair in zip(alone, with_dislike, strict=True)]
        again, first = None, self.similar[:1]
        if len(first):
            again = self._shown(self._after((first, "like"))[0], self._after(disliked, (first, "like"))[1])
        other = self._other()
        viewed = [self._shown(self.scores, scores) for scores in self._after(disliked, *views)[1:]]
        return Probes(
            **bite,
            overlap_like=other,
            likes=lasting,
            liked_again=again,
            views=viewed,
            restored=all(np.array_equal(self.shown, _best(scores, self.k)) for scores in self.undone),
            exact=all(np.array_equal(self.scores, scores) for scores in self.undone),
            milliseconds=1e3 * self.seconds[0],
        )

    def _bite(self) -> dict[str, Any]:
        """Dislike one item and more of its kind, and look at what is lost."""
        kind = np.concatenate([self.disliked, self.nearest[np.isin(self.nearest, self.shown)]])
        numbers = [number for number in DISLIKES if number <= len(kind)]
        steps = [(kind[start:end], "dislike") for start, end in zip([0, *numbers], numbers, strict=False)]
        scores = self._after(*steps)
        without, after = self._hidden(self.disliked), scores[0]
        before, later = _best(without, self.k), _best(after, self.k)
        lost, rest = before[~np.isin(before, later)], before[~np.isin(before, self.similar)]
        moved = _places(after)[self.similar] - _places(without)[self.similar]
        own = self.audit.likes[[self.user]].indices
        liked = rest[self.audit.alike(rest)[:, own].max(axis=1) > self.alike[rest]] if len(rest) else rest
        return {
            "gone": bool(self.disliked[0] not in later),
            "dislikes": [self._shown(self._hidden(kind[:n]), row) for n, row in zip(numbers, scores, strict=True)],
            "falling": float(((moved > 0) + 0.5 * (moved == 0)).mean()) if len(moved) else 0.5,
            "more_fall": float(np.sign(np.sign(moved).sum()) / 2 + 0.5),
            "cluster": _among(self.cluster, _best(without, N_CLUSTER), _best(after, N_CLUSTER)),
            "far_lost": float((~np.isin(lost, self.cluster)).sum() / max(len(before), 1)),
            "liked": _among(liked, before, later),
            "overlap_dislike": overlap(rest.tolist(), later[~np.isin(later, self.similar)].tolist()),
        }

    def _other(self) -> float | None:
        """Like an item of another kind, and return the overlap of both lists; None where there is no such item."""
        item = np.array([self.audit.another_kind(self.user, self.new, self.rng)])
        if not item[0]:
            return None
        return overlap(self.shown.tolist(), _best(self._after((item, "like"))[0], self.k).tolist())

    def _after(self, *steps: tuple[IntArray, str]) -> list[np.ndarray]:
        """Return the scores after each of some steps; all is taken back then, but for views."""
        scores = []
        for step in steps:
            started = time.perf_counter()
            self.audit.add_events(self.user, step)
            scores.append(self.audit.scores(self.user))
            self.seconds.append(time.perf_counter() - started)
        verdicts = [(items, f"un{kind}") for items, kind in steps if kind != "view"]
        self.audit.add_events(self.user, *verdicts)
        if len(verdicts) == len(steps):
            self.undone.append(self.audit.scores(self.user))
        return scores

    def _shown(self, without: np.ndarray, after: np.ndarray) -> Shown:
        """Count the similar items in the lists by two rankings; in neither is an item that the second one hides."""
        hidden = np.where(np.isfinite(after), without, -np.inf)
        near = self.nearest[np.isfinite(after[self.nearest])][:N_NEIGHBOURS]
        return _among(near, _best(hidden, self.k), _best(after, self.k))

    def _hidden(self, items: IntArray) -> np.ndarray:
        """Return the scores at the start with some items hidden."""
        left = self.scores.copy()
        left[items] = -np.inf
        return left

    def _nearest(self, alike: np.ndarray) -> IntArray:
        """Return the new items that are alike at all, the nearest first."""
        return _best(np.where(self.new & (alike > 0), alike, -np.inf), len(alike))

    def _far(self) -> IntArray:
        """Return new items that some like, of the half that is least like the disliked one."""
        pool = self.new & (self.audit.n_likes > 1)
        pool[self.cluster] = pool[self.disliked] = False
        far = self.rng.permutation(np.flatnonzero(pool))
        far = far[np.argsort(self.alike[far], kind="stable")][: (len(far) + 1) // 2]
        return np.asarray(self.rng.permutation(far)[: NEUTRAL[-1]])


def _words(config: Any, feature: str) -> dict[str, list[str]]:
    """Return the values that items have in a column of a data set's features, by the names of the items."""
    table = read_side(config, "item", [feature])
    return {name: (value or "").split() for name, value in zip(table.ids, table.columns[feature], strict=True)}


def _best(scores: np.ndarray, k: int) -> IntArray:
    """Return the k items with the highest scores, best first; none of those with minus infinity."""
    order = np.argsort(-scores, kind="stable")[:k]
    return np.asarray(order[np.isfinite(scores[order])])


def _among(items: IntArray, *lists: IntArray) -> Shown:
    """Return how many of some items are in each of two lists."""
    one, other = (int(np.isin(shown, items).sum()) for shown in lists)
    return one, other


def _places(scores: np.ndarray) -> IntArray:
    """Return the place of each item in the ranking, 0 for the best."""
    places = np.empty(len(scores), dtype=np.int64)
    places[np.argsort(-scores, kind="stable")] = np.arange(len(scores))
    return places


def respond_all(
    models: Mapping[str, Mapping[str, Any]], dataset: str, folder: Path, **question: Any
) -> list[dict[str, Any]]:
    """Audit models one after the other; what the folder holds of the same question is taken from it."""
    for model in models:
        make_learner(model)  # a model without a live learner is refused before any is trained
    return kept_or_made(models, dataset, folder, question, respond)


def has_learner(model: str) -> bool:
    """Return whether a model of that class name can go on learning from events."""
    try:
        make_learner(model)
    except UsageError:
        return False
    return True
