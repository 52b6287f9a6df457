"""Simulated users, who judge what they are shown by what held-out truth says: they drive a service in tests and demos.

Truth is a low-rank model of a data set's likes and dislikes, so that it is known which variant is better.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np

from recbole_signed.errors import UsageError
from recbole_signed.files import parse_json
from recbole_signed.live.serve.replicas import connection_to

Send = Callable[[list[dict[str, object]]], None]
Ask = Callable[[str, int], Sequence[str]]


@dataclass(frozen=True)
class Truth:
    """What simulated users think."""

    users: list[str]
    items: list[str]
    like: np.ndarray  # [n_users, n_items] float32: probability that a verdict is a like
    speaks: np.ndarray  # [n_items] probability that a user who looks at an item judges it

    @classmethod
    def planted(cls, n_users: int, n_items: int, seed: int = 0, rank: int = 4) -> Truth:
        """Draw tastes from a low-rank model; the ids are ``u1``, ``i1`` and so on."""
        rng = np.random.default_rng(seed)
        taste = rng.normal(size=(n_users, rank)) @ rng.normal(size=(rank, n_items)) / np.sqrt(rank)
        level = rng.normal(0.0, 1.0, n_items)
        return cls(
            [f"u{i}" for i in range(1, n_users + 1)],
            [f"i{i}" for i in range(1, n_items + 1)],
            (1 / (1 + np.exp(-(2 * taste + level)))).astype(np.float32),
            np.full(n_items, 0.5),
        )

    @classmethod
    def of_edges(
        cls,
        users: Sequence[str],
        items: Sequence[str],
        user: np.ndarray,
        item: np.ndarray,
        sign: np.ndarray,
        rank: int = 16,
    ) -> Truth:
        """Estimate tastes from verdicts, ``[n]`` each, by a truncated SVD of residuals over smoothed like rates."""
        import scipy.sparse as sp
        from scipy.sparse.linalg import svds

        if not len(user):
            raise UsageError("a simulation needs a data set with likes or dislikes.")
        liked = (sign > 0).astype(np.float64)
        counts, likes = (np.bincount(item, weights=w, minlength=len(items)) for w in (np.ones_like(liked), liked))
        rate = (likes + 5 * liked.mean()) / (counts + 5)
        residual = sp.csr_matrix((liked - rate[item], (user, item)), shape=(len(users), len(items)))
        k = min(rank, min(residual.shape) - 1)
        taste = np.zeros(residual.shape)
        if k > 0 and residual.data.any():  # else all users think alike, such as where nobody dislikes anything
            left, values, right = svds(residual, k, random_state=0)
            taste = (left * values) @ right
        like = np.clip(rate + 4 * taste, 0.02, 0.98)
        return cls(list(users), list(items), like.astype(np.float32), np.clip(counts / counts.max(), 0.05, 0.9))


@dataclass(frozen=True)
class Outcome:
    """What a simulation saw."""

    shown: int
    likes: int
    dislikes: int
    expected: float  # mean probability of a like of what was shown, whether or not the user spoke


PATIENCE = 0.85  # probability of looking at the next item; the first one is looked at in any case


def simulate(truth: Truth, ask: Ask, send: Send, *, rounds: int, k: int = 10, seed: int = 0) -> Outcome:
    """Let random users ask for a list, look at it, and judge."""
    rng = np.random.default_rng(seed)
    number = {item: i for i, item in enumerate(truth.items)}
    shown = likes = dislikes = 0
    expected = 0.0
    for _ in range(rounds):
        user = int(rng.integers(len(truth.users)))
        listed = [number[item] for item in ask(truth.users[user], k) if item in number]
        looked = listed[: int(rng.geometric(1 - PATIENCE))]
        shown += len(looked)
        expected += float(truth.like[user, looked].sum())
        events: list[dict[str, object]] = []
        for item in looked:
            if rng.random() < truth.speaks[item]:
                good = rng.random() < truth.like[user, item]
                likes, dislikes = likes + good, dislikes + (not good)
                kind = "like" if good else "dislike"
                events.append({"user_id": truth.users[user], "item_id": truth.items[item], "type": kind})
        if events:
            send(events)
    return Outcome(shown, int(likes), int(dislikes), expected / max(shown, 1))


LARGEST = 1 << 26  # bytes of an answer that are read


class Client:
    """A connection to a service that is kept open."""

    def __init__(self, url: str, key: str | None = None) -> None:
        if key and not (key.isascii() and key.isprintable()):
            raise UsageError(f"the API key {key!r} has other characters than those that keys are made of.")
        self._connection = connection_to(url)
        self._headers = {"Content-Type": "application/json", **({"X-API-Key": key} if key else {})}
        self._url = url

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request and return the JSON of the answer."""
        content = None if body is None else json.dumps(body)
        try:
            self._connection.request(method, path, content, self._headers)
            response = self._connection.getresponse()
            answer = parse_json(response.read(LARGEST))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UsageError(f"{self._url} does not answer: {error}.") from error
        if response.status >= 400:
            cure = " Give one by --key or RECBOLE_SIGNED_KEY." if response.status == 401 else ""
            raise UsageError(f"{self._url} refuses {method} {path}: {_detail(answer, response.status)}{cure}")
        return answer

    def items(self, path: str) -> list[str]:
        """Return the items of a list."""
        answer = self("GET", path)
        try:
            return [str(each["item"]) for each in answer["items"]]
        except (KeyError, TypeError) as error:
            raise UsageError(
                f"{self._url} answers {path} otherwise than 'recbole-signed serve'; look at the address."
            ) from error


def _detail(answer: Any, status: int) -> Any:
    return answer.get("detail", status) if isinstance(answer, dict) else status


def drive(url: str, dataset: str | None, rounds: int, k: int, seed: int, key: str | None = None) -> Outcome:
    """Let simulated users judge lists of a service; without a data set their tastes for popular items are planted."""
    client = Client(url, key)
    if dataset is None:
        items = client.items("/v1/popular?k=500")
        if not items:
            raise UsageError(f"{url} knows no item yet; give a data set (-d), or send it events.")
        planted = Truth.planted(200, len(items), seed)
        truth = Truth(planted.users, items, planted.like, planted.speaks)
    else:
        truth = _truth_of(dataset)

    def ask(user: str, length: int) -> Sequence[str]:
        return client.items(f"/v1/users/{quote(user, safe='')}/recommendations?k={length}")

    return simulate(
        truth, ask, lambda events: client("POST", "/v1/events", {"events": events}), rounds=rounds, k=k, seed=seed
    )


def _truth_of(dataset: str) -> Truth:
    from recbole_signed.atomic import read_rows
    from recbole_signed.runs.provenance import data_folder

    rows = read_rows(data_folder(dataset))
    assert rows.tokens is not None, "they are read from a file"
    verdict = rows.signs != 0
    users, items = (each.to_list() for each in rows.tokens)
    return Truth.of_edges(users, items, rows.users[verdict], rows.items[verdict], rows.signs[verdict])
