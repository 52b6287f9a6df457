"""The source ``yelp`` on a file in its raw format."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from converted import rows_of

from recbole_signed.convert import convert
from recbole_signed.errors import UsageError

FILE = "yelp_academic_dataset_review.json"


def review(user: str, business: str, stars: Any, date: str) -> dict[str, Any]:
    return {
        "review_id": "KU_O5udG6zpxOg-VcAEodg",
        "user_id": user,
        "business_id": business,
        "stars": stars,
        "useful": 0,
        "funny": 0,
        "cool": 0,
        "text": 'Not "good",\n\tnot bad.',
        "date": date,
    }


REVIEWS = [
    review("mh_-eMZ6K5RLWhZyISBhwA", "XQfwVwDr-v0ZS3_CbbE5Xw", 3.0, "2018-07-07 22:09:11"),
    review("OyoGAe7OKpv6SyGZT5g77Q", "7ATYjTIgM3jUlt4UM3IypQ", 5.0, "2012-01-03 15:28:18"),
    review("OyoGAe7OKpv6SyGZT5g77Q", "XQfwVwDr-v0ZS3_CbbE5Xw", 2.0, "1970-01-02 00:00:00"),
]


def write(path: Path, reviews: list[dict[str, Any]]) -> None:
    data = "".join(json.dumps(entry) + "\n" for entry in reviews).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_reviews(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"{FILE}{suffix}", REVIEWS)
    made = convert("yelp", tmp_path, tmp_path / "out")
    assert rows_of(made / "yelp.inter") == [
        ["OyoGAe7OKpv6SyGZT5g77Q", "XQfwVwDr-v0ZS3_CbbE5Xw", "2", "-1", "86400"],
        ["OyoGAe7OKpv6SyGZT5g77Q", "7ATYjTIgM3jUlt4UM3IypQ", "5", "1", "1325604498"],
        ["mh_-eMZ6K5RLWhZyISBhwA", "XQfwVwDr-v0ZS3_CbbE5Xw", "3", "0", "1531001351"],
    ]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (review("u", "b", 6.0, "2018-07-07 22:09:11"), "rating 6, ratings here go from 1 to 5"),
        (review("u", "b", None, "2018-07-07 22:09:11"), "no value in column 'rating'"),
        (review("u", "b", 4.0, "2018-13-07 22:09:11"), "time '2018-13-07 22:09:11'"),
        (review("", "b", 4.0, "2018-07-07 22:09:11"), "no value in column 'user_id'"),
    ],
)
def test_bad_reviews(tmp_path: Path, bad: dict[str, Any], message: str) -> None:
    write(tmp_path / FILE, [*REVIEWS, bad])
    with pytest.raises(UsageError, match=f"{FILE}, line 4: {message}"):
        convert("yelp", tmp_path / FILE, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_other_files(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps(REVIEWS[0]) + "\n{broken\n")
    with pytest.raises(UsageError, match=f"{FILE}, line 2: not a JSON object"):
        convert("yelp", tmp_path, tmp_path / "out")
    write(tmp_path / FILE, [{"user_id": "u", "stars": 5, "date": "2018-07-07"}])
    with pytest.raises(UsageError, match="has no column 'business_id'"):
        convert("yelp", tmp_path, tmp_path / "out")
