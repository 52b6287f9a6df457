r"""Does a model react when a user says no? An audit of what one event does to a user's list, and of what undoes it.

Each probe goes the way of a served event: durable in the log, taken in by the learner, and the list asked for again.
For each of some users, on a state that ends where it began:

1. **A dislike of a shown item**, at a random place of the list. Is it gone? Its *neighbours*, the items whose likes are
   most alike (cosine over users, of the training part: the same ones for every model) among those that the user has no
   edge to, are what the user would call more of the same: how many are shown before and after, and how many fall in the
   whole ranking. Mozilla's study of YouTube ("Does This Button Work?", 2022) counts the same: the share of unwanted
   recommendations that a button prevents.
2. **The dislike is taken back**: is the list as before, and is every score, to the last bit?
3. **A like of another kind**, of an item that no like of the user has a user in common with: how far does it move the
   list, and does it bring its neighbours in?
4. **The like is taken back.**

How far a list moves is the rank-biased overlap of both lists (Webber, Moffat & Zobel, "A similarity measure for
indefinite rankings", TOIS 2010), 1 for equal lists.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recbole_signed import __version__
from recbole_signed.errors import UsageError, argument
from recbole_signed.plugin import display_name
from recbole_signed.table import Header, Section, Table, text_lines

IntArray = npt.NDArray[np.int64]
N_NEIGHBOURS = 10
"""Items that count as more of the same."""
PERSISTENCE = 0.9
"""p of the rank-biased overlap: the first 10 places have 86 % of the weight."""


@dataclass(frozen=True)
class Probes:
    """What came of one user's probes."""

    gone: bool
    """The disliked item is no longer shown."""
    near_before: int
    """Neighbours of the disliked item in the list before (the item itself left out)."""
    near_after: int
    falling: float
    """Share of the neighbours that lose places among all other items; one that keeps its place counts half, so that a
    list that does not react has .5."""
    overlap_dislike: float
    """Rank-biased overlap of the lists before (without the disliked item) and after the dislike."""
    overlap_like: float | None
    """The same of a like of another kind; None where the catalogue has no such item."""
    near_like_before: int | None
    near_like_after: int | None
    restored: bool
    """After each event was taken back, the list was what it had been."""
    exact: bool
    """All scores were, bit by bit; a learner that corrects an inverse leaves rounding (SignedEASE)."""
    milliseconds: float
    """From an event to the list that reflects it; the mean of the two."""


def overlap(one: Sequence[int], other: Sequence[int], p: float = PERSISTENCE) -> float:
    r"""Return the rank-biased overlap of two lists, extrapolated from their common length k.

    .. math:: \frac{X_k}{k} p^k + \frac{1-p}{p} \sum_{d=1}^{k} \frac{X_d}{d} p^d,

    with :math:`X_d` the size of what both have among their first d (Webber et al. 2010, eq. 30).
    """
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
        k: length of the list.
        values: as in :func:`~.tradeoff_curve.tradeoff`.

    Returns:
        ``model``, ``dataset``, ``seed``, ``k``, what the numbers come from, ``probes`` (one per user, see
        :class:`Probes`) and ``summary`` of them.

    Raises:
        UsageError: the model has no live learner, or something asked for does not exist or does not fit.
    """
    from recbole_signed.experiments.analysis.fitted import above_files, fit_once
    from recbole_signed.experiments.runs import config_hash, data_sha256, versions
    from recbole_signed.online import OnlineRecommender, base_of
    from recbole_signed.online.learners import learner_of, make_learner
    from recbole_signed.plugin import given_settings

    for name, value in ((argument("n_users", option="--users"), n_users), (argument("k"), k)):
        if value < 1:
            raise UsageError(f"{name} is {value}; it must be 1 or more.")
    make_learner(model)  # a model without a live learner is refused before it is trained
    given = above_files(config_files, values or {}, overrides)
    fitted = fit_once(model, dataset, config_files, given, seed)
    config, trained_on = fitted.config, fitted.train_data._dataset
    with tempfile.TemporaryDirectory() as folder:
        learner, state = learner_of(fitted.model, config), Path(folder) / "state"
        live = OnlineRecommender.begin(state, learner, *base_of(trained_on), unit_known=True)
        try:
            probes = _Audit(live, int(config["seed"]), k).of_users(n_users)
        finally:
            live.close()
    settings = getattr(fitted.model, "chosen", None) or given_settings(config)
    return {
        "model": config["model"],
        "dataset": config["dataset"],
        "seed": int(config["seed"]),
        "k": k,
        "settings": {key: value for key, value in settings.items() if key != "data_path"},
        "fit_seconds": round(fitted.seconds, 2),
        "stopped_by": getattr(fitted.trainer, "stopped_by", None),
        "config_hash": config_hash(config.final_config_dict),
        "data_sha256": data_sha256(Path(config["data_path"]), config["dataset"]),
        "package": __version__,
        "versions": versions(),
        "summary": summary(probes),
        "probes": [asdict(each) for each in probes],
    }


class _Audit:
    """Probes users of a live model, which is left as it was."""

    def __init__(self, live: Any, seed: int, k: int) -> None:
        self.live, self.seed, self.k = live, seed, k
        with live.reading() as (state, _):
            edges = state.edges.export()
            self.users, self.items = state.edges.n_users, state.edges.n_items
            self.names = ["", *state.users.tokens(range(1, self.users))]
            self.item_names = ["", *state.items.tokens(range(1, self.items))]
        liked = edges.kind == _like()
        shape = self.users, self.items
        ones = np.ones(int(liked.sum()), dtype=np.float32)
        self.likes = sp.csr_matrix((ones, (edges.user[liked], edges.item[liked])), shape=shape)
        self.by_item = self.likes.T.tocsr()
        self.n_likes = np.diff(self.by_item.indptr)
        self.n_edges = np.bincount(edges.user, minlength=self.users)
        self.clock = max(int(edges.timestamp.max(initial=0)), 0)

    def of_users(self, n_users: int) -> list[Probes]:
        """Probe so many of the users with a like and something left to be shown; all of them where there are fewer."""
        from recbole_signed.ssf import drawn

        known = np.flatnonzero((np.diff(self.likes.indptr) > 0) & (self.n_edges < self.items - 1))
        chosen = drawn(known, n_users, np.array([self.names[user] for user in known], dtype=object))
        return [self._probe(int(user), np.random.default_rng([self.seed, place])) for place, user in enumerate(chosen)]

    def _probe(self, user: int, rng: np.random.Generator) -> Probes:
        scores, shown = self._ranking(user)
        item = int(shown[rng.integers(len(shown))])
        near = self._neighbours(user, item)
        started = time.perf_counter()
        self._tell(user, item, "dislike")
        after_scores, after = self._ranking(user)
        seconds = [time.perf_counter() - started]
        self._tell(user, item, "undislike")
        undone = [self._ranking(user)]
        without = scores.copy()
        without[item] = -np.inf  # or what stood below it would have gained a place
        moved = _places(after_scores)[near] - _places(without)[near]
        other = self._another_kind(user, rng)
        found: dict[str, Any] = {"overlap_like": None, "near_like_before": None, "near_like_after": None}
        if other:
            near_other = self._neighbours(user, other)
            started = time.perf_counter()
            self._tell(user, other, "like")
            _, liked = self._ranking(user)
            seconds.append(time.perf_counter() - started)
            self._tell(user, other, "unlike")
            undone.append(self._ranking(user))
            found = {
                "overlap_like": overlap(shown.tolist(), liked.tolist()),
                "near_like_before": int(np.isin(shown, near_other).sum()),
                "near_like_after": int(np.isin(liked, near_other).sum()),
            }
        rest = shown[shown != item]
        return Probes(
            gone=item not in after,
            near_before=int(np.isin(rest, near).sum()),
            near_after=int(np.isin(after[: len(rest)], near).sum()),
            falling=float(((moved > 0) + 0.5 * (moved == 0)).mean()) if len(near) else 0.5,
            overlap_dislike=overlap(rest.tolist(), after[after != item].tolist()),
            restored=all(np.array_equal(shown, listed) for _, listed in undone),
            exact=all(np.array_equal(scores, ranked) for ranked, _ in undone),
            milliseconds=1e3 * float(np.mean(seconds)),
            **found,
        )

    def _tell(self, user: int, item: int, kind: str) -> None:
        from recbole_signed.online import Event

        self.clock += 1
        self.live.update([Event("", self.names[user], self.item_names[item], kind, self.clock)])

    def _ranking(self, user: int) -> tuple[np.ndarray, IntArray]:
        """Return what the user's items are ranked by, those it has an edge to last, and the list."""
        from recbole_signed.online.learners import ranked_scores

        with self.live.reading() as (state, learner):
            scores = ranked_scores(learner, state.edges, np.array([user]))[0, : self.items].double().numpy().copy()
            scores[state.edges.of_user(user).ids.astype(np.int64)] = -np.inf
        scores[0] = -np.inf
        order = np.argsort(-scores, kind="stable")[: self.k]
        return scores, order[np.isfinite(scores[order])]

    def _neighbours(self, user: int, item: int) -> IntArray:
        """Return the items that a user has no edge to whose likes are most like those of an item, the nearest first."""
        common = (self.by_item[[item]] @ self.likes).toarray()[0]
        cosine = common / np.sqrt(np.maximum(self.n_likes, 1.0))
        cosine[[0, item]] = 0.0
        cosine[self._seen(user)] = 0.0
        order = np.argsort(-cosine, kind="stable")[:N_NEIGHBOURS]
        found: IntArray = order[cosine[order] > 0]
        return found

    def _another_kind(self, user: int, rng: np.random.Generator) -> int:
        """Return an item, liked by others, that shares no user with what this user liked; 0: there is none.

        Of those the more popular half is drawn from: a like of what hardly anybody knows says little.
        """
        own = self.likes[[user]]
        reach = (own @ self.by_item @ self.likes).toarray()[0]
        far = np.flatnonzero((reach == 0) & (self.n_likes > 1))
        if not len(far):  # in a dense set everything is near: what the user's items have least in common with
            cosine = reach / np.maximum(self.n_likes, 1)
            cosine[(self.n_likes < 2) | (self._seen(user))] = np.inf
            far = np.argsort(cosine, kind="stable")[: max(1, self.items // 50)]
            far = far[np.isfinite(cosine[far])]
        far = far[~self._seen(user)[far]]
        popular = far[self.n_likes[far] >= np.median(self.n_likes[far])] if len(far) else far
        return int(rng.choice(popular)) if len(popular) else 0

    def _seen(self, user: int) -> npt.NDArray[np.bool_]:
        with self.live.reading() as (state, _):
            seen = np.zeros(self.items, dtype=bool)
            seen[state.edges.of_user(user).ids.astype(np.int64)] = True
        return seen


def _like() -> int:
    from recbole_signed.online import LIKE

    return int(LIKE)


def _places(scores: np.ndarray) -> IntArray:
    """Return the place of each item in the ranking, 0 for the best."""
    places = np.empty(len(scores), dtype=np.int64)
    places[np.argsort(-scores, kind="stable")] = np.arange(len(scores))
    return places


def summary(probes: Sequence[Probes]) -> dict[str, float | None]:
    """Return the means over users; ``prevented`` is the share of shown neighbours that a dislike took away."""

    def mean(name: str) -> float | None:
        values = [getattr(each, name) for each in probes if getattr(each, name) is not None]
        return float(np.mean(values)) if values else None

    before, after = (sum(getattr(each, f"near_{when}") for each in probes) for when in ("before", "after"))
    names = ("gone", "near_before", "near_after", "falling", "overlap_dislike", "overlap_like", "near_like_before",
             "near_like_after", "restored", "exact", "milliseconds")  # fmt: skip
    found = {name: mean(name) for name in names}
    return {"users": float(len(probes)), "prevented": 1 - after / before if before else None, **found}


def respond_all(
    models: Mapping[str, Mapping[str, Any]], dataset: str, folder: Path, **question: Any
) -> list[dict[str, Any]]:
    """Audit models one after the other; what the folder holds of the same question is taken from it.

    Args:
        models: class name -> ``values`` of :func:`respond`.
        dataset: name of a data set.
        folder: where each audit is kept as ``MODEL-DATASET.json``.
        question: further arguments of :func:`respond`.
    """
    from recbole_signed.experiments.analysis.fitted import kept_or_made
    from recbole_signed.online.learners import make_learner

    for model in models:
        make_learner(model)  # a model without a live learner is refused before any is trained
    return kept_or_made(models, dataset, folder, question, respond)


def has_learner(model: str) -> bool:
    """Return whether a model of that class name can go on learning from events."""
    from recbole_signed.online.learners import make_learner

    try:
        make_learner(model)
    except UsageError:
        return False
    return True


COLUMNS: tuple[tuple[str, Header, str], ...] = (
    ("gone", Header("gone"), "{:.0%}"),
    ("near_before", Header("similar shown before"), "{:.2f}"),
    ("near_after", Header("after", smaller=True), "{:.2f}"),
    ("prevented", Header("prevented"), "{:.0%}"),
    ("falling", Header("similar fall"), "{:.0%}"),
    ("overlap_dislike", Header("overlap"), "{:.3f}"),
    ("overlap_like", Header("overlap after a like", smaller=True), "{:.3f}"),
    ("near_like_after", Header("its similar shown"), "{:.2f}"),
    ("restored", Header("undone"), "{:.0%}"),
    ("exact", Header("to the bit"), "{:.0%}"),
    ("milliseconds", Header("ms", smaller=True), "{:.1f}"),
)
"""What the table shows of a summary, and how."""


def respond_table(audits: Sequence[Mapping[str, Any]]) -> Table:
    """Return the audits of one data set, a line each."""
    first = audits[0]
    return Table(
        f"Responsiveness on {first['dataset']}, {first['summary']['users']:.0f} users, lists of {first['k']}",
        tuple(header for _, header, _ in COLUMNS),
        (Section("", text_lines([(display_name(each["model"]), *_cells(each["summary"])) for each in audits])),),
        (
            "A shown item is disliked: is it gone; how many of the items most like it are shown before and after; the "
            "share of them that is prevented; the share that falls in the whole ranking; overlap (RBO) of both lists. "
            "Then an item of another kind is liked: overlap, and how many items like it are shown. ms: event to list.",
        ),
        head=(Header("Model", left=True),),
    )


def respond_rows(audits: Sequence[Mapping[str, Any]]) -> str:
    """Return the audits as JSON lines, without their probes."""
    rows = [{key: value for key, value in each.items() if key != "probes"} for each in audits]
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def _cells(found: Mapping[str, float | None]) -> list[str]:
    return ["-" if found[name] is None else form.format(found[name]) for name, _, form in COLUMNS]
