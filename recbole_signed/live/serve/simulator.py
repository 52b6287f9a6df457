"""Simulated users, who judge what they are shown by what held-out truth says: they drive a service in tests and demos.

Truth is a low-rank model of a data set's likes and dislikes, so that it is known which variant is better.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np

from recbole_signed.errors import UsageError
from recbole_signed.files import parse_json
from recbole_signed.live.serve.replicas import connection_to

PATIENCE = 0.85  # probability of looking at the next item; the first one is looked at in any case
LARGEST = 1 << 26  # bytes of an answer that are read


@dataclass(frozen=True)
class Truth:
    """What simulated users think."""

    users: Sequence[str]
    items: Sequence[str]
    like: np.ndarray  # [n_users, n_items] float32: probability that a verdict is a like
    speaks: np.ndarray  # [n_items] probability that a user who looks at an item judges it

    @classmethod
    def planted(cls, items: Sequence[str], seed: int, n_users: int = 200, rank: int = 4) -> Truth:
        """Draw tastes for items from a low-rank model; the users are ``u1`` and so on."""
        rng = np.random.default_rng(seed)
        taste = rng.normal(size=(n_users, rank)) @ rng.normal(size=(rank, len(items))) / np.sqrt(rank)
        like = 1 / (1 + np.exp(-(2 * taste + rng.normal(0.0, 1.0, len(items)))))
        users = [f"u{number}" for number in range(1, n_users + 1)]
        return cls(users, items, like.astype(np.float32), np.full(len(items), 0.5))

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
        return cls(users, items, like.astype(np.float32), np.clip(counts / counts.max(), 0.05, 0.9))


@dataclass
class Outcome:
    """What a simulation saw."""

    shown: int = 0
    likes: int = 0
    dislikes: int = 0
    expected: float = 0.0  # mean probability of a like of what was shown, whether or not the user spoke


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
            detail = answer.get("detail", response.status) if isinstance(answer, dict) else response.status
            raise UsageError(f"{self._url} refuses {method} {path}: {detail}{cure}")
        return answer

    def items(self, path: str) -> list[str]:
        """Return the items of a list."""
        answer = self("GET", path)
        try:
            return [str(row["item"]) for row in answer["items"]]
        except (KeyError, TypeError) as error:
            raise UsageError(
                f"{self._url} answers {path} otherwise than 'recbole-signed serve'; look at the address."
            ) from error


def drive(url: str, dataset: str | None, rounds: int, k: int, seed: int, key: str | None = None) -> Outcome:
    """Let random users ask a service for a list, look at it, and judge; without a data set their tastes are planted."""
    client = Client(url, key)
    if dataset is not None:
        truth = _truth_of(dataset)
    elif items := client.items("/v1/popular?k=500"):
        truth = Truth.planted(items, seed)
    else:
        raise UsageError(f"{url} knows no item yet; give a data set (-d), or send it events.")
    rng, seen = np.random.default_rng(seed), Outcome()
    places = {item: place for place, item in enumerate(truth.items)}
    for _ in range(rounds):
        user = int(rng.integers(len(truth.users)))
        listed = client.items(f"/v1/users/{quote(truth.users[user], safe='')}/recommendations?k={k}")
        looked = [places[item] for item in listed if item in places][: int(rng.geometric(1 - PATIENCE))]
        seen.shown += len(looked)
        seen.expected += float(truth.like[user, looked].sum())
        events: list[dict[str, str]] = []
        for item in looked:
            if rng.random() < truth.speaks[item]:
                kind = "like" if rng.random() < truth.like[user, item] else "dislike"
                events.append({"user_id": truth.users[user], "item_id": truth.items[item], "type": kind})
        if events:
            client("POST", "/v1/events", {"events": events})
        seen.likes += sum(event["type"] == "like" for event in events)
        seen.dislikes += sum(event["type"] == "dislike" for event in events)
    seen.expected /= max(seen.shown, 1)
    return seen


def _truth_of(dataset: str) -> Truth:
    from recbole_signed.atomic import read_rows
    from recbole_signed.runs.provenance import data_folder

    rows = read_rows(data_folder(dataset))
    assert rows.tokens is not None, "they are read from a file"
    verdict = rows.signs != 0
    users, items = (tokens.to_list() for tokens in rows.tokens)
    return Truth.of_edges(users, items, rows.users[verdict], rows.items[verdict], rows.signs[verdict])
