"""The source ``steam`` on a file in its raw format."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from converted import manifest_of, rows_of

from recbole_signed.convert import convert
from recbole_signed.errors import UsageError

FILE = "australian_user_reviews.json"


def user(name: str, *reviews: tuple[Any, Any, Any]) -> dict[str, Any]:
    return {
        "user_id": name,
        "user_url": f"http://steamcommunity.com/id/{name}",
        "reviews": [
            {
                "funny": "",
                "posted": posted,
                "last_edited": "",
                "item_id": item,
                "helpful": "0 of 1 people (0%) found this review helpful",
                "recommend": recommend,
                "review": "it's \"good\",\tor\x85 isn't\u2028 it",
            }
            for item, recommend, posted in reviews
        ],
    }


USERS = [
    user("76561197970982479", ("1250", True, "Posted November 5, 2011."), ("22200", True, "Posted July 15, 2011.")),
    user("js41637"),
    user("évan", ("1250", False, "Posted July 10."), ("43110", False, "Posted February 3, 2014.")),
]


def write(path: Path, users: list[Any]) -> Path:
    data = "".join(f"{entry if isinstance(entry, str) else repr(entry)}\n" for entry in users).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_reviews(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"{FILE}{suffix}", USERS)
    made = convert("steam", tmp_path, tmp_path / "a")
    assert rows_of(made / "steam.inter") == [
        ["76561197970982479", "22200", "1", "1310688000"],
        ["76561197970982479", "1250", "1", "1320451200"],
        ["évan", "43110", "-1", "1391385600"],
    ]
    made = convert("steam", tmp_path / f"{FILE}{suffix}", tmp_path / "b", undated="keep")
    assert rows_of(made / "steam.inter") == [
        ["76561197970982479", "1250", "1"],
        ["76561197970982479", "22200", "1"],
        ["évan", "1250", "-1"],
        ["évan", "43110", "-1"],
    ]
    assert manifest_of(made)["sign_rule"]["dislike"] == "recommend == 0"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{'user_id': 'a', 'reviews': [", "not a Python dict"),
        ("__import__('os').getcwd()", "not a Python dict"),
        ('{"user_id": "a", "reviews": [{"item_id": "1", "recommend": true, "posted": ""}]}', "not a Python dict"),
        ("[1, 2]", "a dict with 'user_id' and a list of 'reviews' was expected"),
        (repr({"user_id": "a"}), "a dict with 'user_id' and a list"),
        (user("a", ("1", "yes", "Posted July 15, 2011.")), "'recommend' of a review is 'yes'; reviews have"),
        (user("a", (None, True, "Posted July 15, 2011.")), "'item_id' of a review is None"),
        (user("a", ("1", True, "Posted Juli 15, 2011.")), "posted 'Posted Juli 15, 2011.', a date like"),
        (user("a", ("1", True, "")), "posted '', a date like"),
        (user("a", ("", True, "Posted July 15, 2011.")), "no value in column 'item_id'"),
        ({"user_id": "a", "reviews": [5]}, "'user_id' of a review is 5; reviews have"),
        ("{'user_id': 'a', 'reviews': [{[]: 1}]}", "not a Python dict"),
        (user("a\ud800", ("1", True, "Posted July 15, 2011.")), r"'user_id' of a review is 'a\\ud800'; reviews have"),
    ],
)
def test_bad_lines(tmp_path: Path, bad: Any, message: str) -> None:
    write(tmp_path / FILE, [*USERS, "", bad])
    with pytest.raises(UsageError, match=f"{FILE}, line 5: {message}"):
        convert("steam", tmp_path, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
