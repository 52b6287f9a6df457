from __future__ import annotations

import pytest

from recbole_signed.data.edge_groups import DEFAULT_BOUNDS, bounds_of, in_group, labels_of, split_group
from recbole_signed.errors import UsageError


def test_labels_name_every_number_of_edges_once() -> None:
    assert labels_of("users", (0, 5, 20)) == ["users 0", "users 1-5", "users 6-20", "users 21+"]
    assert labels_of("items", (5, 6)) == ["items 0-5", "items 6", "items 7+"]


def test_names_of_results_in_a_group_can_be_taken_apart() -> None:
    for label in labels_of("users", DEFAULT_BOUNDS["users"]) + labels_of("items", DEFAULT_BOUNDS["items"]):
        assert split_group(in_group("recall@20", label)) == ("recall@20", label)
    for name in ("recall@20", "recall@20[]", "recall@20[users]", "recall@20[people 0]", "[users 0]"):
        assert split_group(name) == (name, "")


@pytest.mark.parametrize("value", [[], [5, 5], [5, 1], [-1, 5], [0.5], [True], 5, "5"])
def test_wrong_bounds_are_refused(value: object) -> None:
    with pytest.raises(UsageError, match=r"user_groups is .* ascending whole numbers"):
        bounds_of("users", value)
