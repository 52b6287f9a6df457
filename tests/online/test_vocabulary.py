"""Ids are given once and for ever; forgetting leaves the hash."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_signed.live.store import Vocabulary
from recbole_signed.live.store.vocabulary import make_tag


def grown(tokens: list[str]) -> Vocabulary:
    vocabulary = Vocabulary()
    vocabulary.add(vocabulary.propose(tokens))
    return vocabulary


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1)))
def test_ids_count_up_in_order_of_appearance(tokens: list[str]) -> None:
    vocabulary = grown(tokens)
    each_once = list(dict.fromkeys(tokens))
    assert vocabulary.tokens(range(len(vocabulary))) == [None, *each_once]
    np.testing.assert_array_equal(vocabulary.ids(each_once), np.arange(1, len(each_once) + 1))
    assert not vocabulary.propose(tokens).tokens


def test_hashes_know_order_tokens_and_directory() -> None:
    vocabulary = grown(["a", "b"])
    assert vocabulary.ids(["b", "c", "a"]).tolist() == [2, 0, 1]
    assert vocabulary.ids([]).dtype == np.int64
    assert "c" not in vocabulary
    assert grown(["a"]).hash() != grown(["a"]).hash()
    assert grown(["a"]).content_hash() == grown(["a"]).content_hash()
    rows = [(token, make_tag(token, b"salt")) for token in ("a", "b", "c")]
    assert Vocabulary(rows).hash() == Vocabulary(rows).hash() != Vocabulary([rows[1], rows[0], rows[2]]).hash()
    assert Vocabulary(rows).hash(3) == Vocabulary(rows[:2]).hash()
    with pytest.raises(IndexError, match="has 4 ids, not 5"):
        Vocabulary(rows).hash(5)


def test_what_is_proposed_changes_nothing_until_it_is_added() -> None:
    vocabulary = grown(["a"])
    before = vocabulary.hash()
    new = vocabulary.propose(["b", "a", "b", "c"])
    assert (new.first, new.tokens) == (2, ["b", "c"])
    assert len(vocabulary) == 2
    assert vocabulary.hash() == before
    vocabulary.add(new)
    assert vocabulary.ids(["b", "c"]).tolist() == [2, 3]
    assert vocabulary.hash(2) == before != vocabulary.hash()


def test_a_forgotten_token_leaves_a_tombstone_and_the_hash() -> None:
    vocabulary = grown(["a", "b", "c"])
    before, content = vocabulary.hash(), vocabulary.content_hash()
    vocabulary.forget(2)
    assert vocabulary.hash() == before
    assert vocabulary.content_hash() != content
    assert vocabulary.tombstones.tolist() == [2]
    assert vocabulary.tokens([2]) == [None]
    assert "b" not in vocabulary
    vocabulary.add(vocabulary.propose(["b"]))
    assert vocabulary.ids(["b"]).tolist() == [4]


def test_forgetting_an_old_id_leaves_the_new_one_of_a_token() -> None:
    """A reader that is behind takes in the new id first."""
    vocabulary = grown(["a", "b"])
    vocabulary.extend([("b", make_tag("b", b"salt"))])
    vocabulary.forget(2)
    assert vocabulary.tokens([2, 3]) == [None, "b"]
    assert vocabulary.id_of("b") == 3
    vocabulary.forget(3)
    assert "b" not in vocabulary
    assert vocabulary.n_known == 1
