"""The lean path: edges in arrays and the graph from them, against RecBole's tables."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recbole.config import Config
from recbole.data import create_dataset, data_preparation

from recbole_signed import UsageError
from recbole_signed.data import BYTES_PER_EDGE, read_edges

COLUMNS = ["user_id:token", "item_id:token", "sign:float", "timestamp:float"]
Write = Callable[..., Path]


def test_edges_are_the_rows_of_the_file(write_inter: Write, signed_rows: list) -> None:
    folder = write_inter("signed", COLUMNS, signed_rows)
    edges = read_edges(folder / "signed.inter")
    assert len(edges) == len(signed_rows)
    assert edges.times is not None
    arrays = (edges.users, edges.items, edges.signs, edges.times)
    assert sum(each.itemsize for each in arrays) == BYTES_PER_EDGE
    users, items = (tokens.to_list() for tokens in (edges.user_tokens, edges.item_tokens))
    rows = [
        (int(users[u - 1]), int(items[i - 1]), s, t)
        for u, i, s, t in zip(*(each.tolist() for each in arrays), strict=True)
    ]
    assert rows == [tuple(row) for row in signed_rows]
    assert users == list(map(str, dict.fromkeys(row[0] for row in signed_rows)))
    assert (edges.n_users, edges.n_items) == (len(users) + 1, len(items) + 1)


@pytest.mark.parametrize("neutral_weight", [0.0, -0.25])
def test_the_graph_is_that_of_the_data_set(neutral_weight: float, write_inter: Write, signed_rows: list) -> None:
    folder = write_inter("signed", COLUMNS, signed_rows)
    edges = read_edges(folder / "signed.inter")
    settings = {"state": "ERROR", "neutral_weight": neutral_weight}
    data = create_dataset(Config(model="BPR", dataset="signed", config_dict=settings))
    data._change_feat_format()
    theirs, ours = data.signed_graph().weighted(0.5), edges.graph(neutral_weight).weighted(0.5)
    user_order = [data.field2token_id["user_id"][token] for token in edges.user_tokens]
    item_order = [data.field2token_id["item_id"][token] for token in edges.item_tokens]
    assert np.array_equal(ours[1:, 1:].toarray(), theirs[user_order][:, item_order].toarray())
    assert ours.nnz == theirs.nnz == sum(row[2] != 0 or neutral_weight != 0 for row in signed_rows)


def test_other_names_times_with_fractions_and_no_time(tmp_path: Path) -> None:
    path = tmp_path / "any.inter"
    path.write_text("u:token,i:token,s:float,t:float\na,x,1,5\nb,x,-1.0,6.5\n")
    edges = read_edges(path, user="u", item="i", sign="s", time="t", separator=",")
    assert edges.times is not None
    assert edges.times.tolist() == [5.0, 6.5]
    assert edges.signs.tolist() == [1, -1]
    assert read_edges(path, user="u", item="i", sign="s", separator=",").times is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user_id:token\titem_id:token\tsigns:float\na\tx\t1\n", "no column 'sign'.*did you mean 'signs'"),
        ("user_id:token\titem_id:token\tsign:float\na\tx\t1\nNA\tx\t1\n", "line 3: the column 'user_id' is blank"),
        ("user_id:token\titem_id:token\tsign:float\na\tx\t1\nb\tx\t0.5\n", "line 3: the column 'sign' holds 0.5"),
        ("user_id:token\titem_id:token\tsign:float\na\tx\t1\nb\tx\t\n", "line 3: the column 'sign' holds nan"),
        ("user_id:token\titem_id:token\tsign:float\na\tx\tyes\n", "values that do not fit"),
        ('user_id:token\titem_id:token\tsign:float\n"a"\tx\t1\n', "has quotes"),
        ("user_id:token\titem_id:token\tsign:float\n", "holds no rows"),
        (None, "there is no file"),
    ],
)
def test_wrong_input_is_one_sentence(text: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "any.inter"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        read_edges(path)
    assert "\n" not in str(caught.value)


def test_it_needs_neither_torch_nor_recbole() -> None:
    code = "import sys, recbole_signed.data.edges; print({'torch', 'recbole'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# ---- neutral rows in the graph, and one graph for all ----


def prepare(**config: Any) -> tuple[Any, ...]:
    settings = Config(model="BPR", dataset="signed", config_dict={"state": "ERROR", **config})
    return data_preparation(settings, create_dataset(settings))


def test_a_part_builds_its_graph_once(write_inter: Write, signed_rows: list) -> None:
    write_inter("signed", COLUMNS, signed_rows)
    train, valid, _ = prepare()
    graph = train._dataset.signed_graph()
    assert train._dataset.signed_graph() is graph
    assert graph.n_edges == len(train._dataset.inter_feat) + len(train._dataset.neg_feat)
    assert valid._dataset.signed_graph().n_edges == len(valid._dataset.inter_feat) + len(valid._dataset.neg_feat)
    assert graph.neutrals is None
    other = train._dataset.copy(valid._dataset.inter_feat)
    assert other.signed_graph().likes.nnz == len(valid._dataset.inter_feat)


@pytest.mark.parametrize("weight", [0.2, -0.2])
def test_neutral_rows_are_weak_edges_where_asked(weight: float, write_inter: Write, signed_rows: list) -> None:
    write_inter("signed", COLUMNS, signed_rows)
    train, _, _ = prepare(neutral_weight=weight)
    part = train._dataset
    graph = part.signed_graph()
    dense = np.zeros((part.user_num, part.item_num), dtype=np.float32)
    for table, value in ((part.inter_feat, 1.0), (part.neg_feat, 0.5), (part.neutral_feat, weight)):
        dense[table["user_id"].numpy(), table["item_id"].numpy()] = value
    assert np.array_equal(graph.weighted(0.5).toarray(), dense)
    users, items = graph.degrees(0.5)
    assert np.allclose(users, np.abs(dense).sum(axis=1))
    assert np.allclose(items, np.abs(dense).sum(axis=0))
    assert np.array_equal(graph.rows([3, 1]).weighted(0.5).toarray(), dense[[3, 1]])


@pytest.mark.parametrize("value", ["much", True, 2, -1.5, float("nan")])
def test_a_wrong_weight_is_refused(value: Any, write_inter: Write, signed_rows: list) -> None:
    write_inter("signed", COLUMNS, signed_rows)
    with pytest.raises(UsageError, match=r"neutral_weight is .* it must be a number from -1"):
        prepare(neutral_weight=value)
