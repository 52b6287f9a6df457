"""A filter fitted without the matrix, from memory, from shards and by two processes, against the ordinary fit."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import check_refused

from recbole_signed.errors import UsageError
from recbole_signed.graph import Shards, SignedGraph, write_shards
from recbole_signed.graph.shards import DegreeCounts, EdgeBlock
from recbole_signed.lab import sharded as sharded_spectral
from recbole_signed.lab.sharded import fit_graph, fit_shards, load_filter, main, save_filter
from recbole_signed.ssf import FilterSettings, SpectralFilter

USERS, ITEMS = 300, 70
SETTINGS = FilterSettings(dislike_weight=-0.3, rank=12, cutoff=4, dislike_aversion=0.5)


def edges(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users and items of five tastes; repeated pairs, both signs, neutral rows; user 7 and item 5 have no edge."""
    rng = np.random.default_rng(seed)
    users, items = rng.integers(0, USERS, 6000), rng.integers(0, ITEMS, 6000)
    keep = ((users % 5 == items % 5) | (rng.random(6000) < 0.25)) & (users != 7) & (items != 5)
    users, items = users[keep], items[keep]
    return users, items, rng.choice([1, -1, 0], len(users), p=[0.6, 0.35, 0.05])


def graph_of(users: np.ndarray, items: np.ndarray, signs: np.ndarray) -> SignedGraph:
    likes, dislikes = ((users[signs == sign], items[signs == sign]) for sign in (1, -1))
    return SignedGraph.from_edges(likes, dislikes, USERS, ITEMS)


def pieces(users: np.ndarray, items: np.ndarray, signs: np.ndarray, size: int = 700) -> list:
    order = np.random.default_rng(1).permutation(len(users))
    return [tuple(each[order[a : a + size]] for each in (users, items, signs)) for a in range(0, len(users), size)]


def assert_same(found: SpectralFilter, wanted: SpectralFilter, loose: float = 1e-3) -> None:
    """Equal values and counts, and equal scores of all users, which do not depend on the basis of the factors."""
    np.testing.assert_allclose(found.values, wanted.values, rtol=loose)
    assert torch.equal(found.counters.likes, wanted.counters.likes)
    assert torch.equal(found.counters.dislikes, wanted.counters.dislikes)
    assert found.n_users == wanted.n_users
    assert found.median_degree == pytest.approx(wanted.median_degree)
    users = graph_of(*edges())
    np.testing.assert_allclose(found.scores(users), wanted.scores(users), atol=loose * 0.5)


@pytest.mark.parametrize("w", [-0.3, 0.0, 0.6, 1.0])
def test_the_fit_without_the_matrix_is_the_fit(w: float) -> None:
    graph, chosen = graph_of(*edges()), FilterSettings(dislike_weight=w, rank=12, cutoff=4)
    assert_same(fit_graph(graph, chosen, iterations=8), SpectralFilter.fit(graph, chosen, iterations=8)[0])


@pytest.mark.parametrize("per_shard", [64, 1000])
@pytest.mark.parametrize("w", [-0.3, 0.0, 1.0])
def test_the_fit_from_shards_is_the_fit(
    per_shard: int, w: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharded_spectral, "ROWS", 50)
    chosen = FilterSettings(dislike_weight=w, rank=12, cutoff=4)
    shards = write_shards(tmp_path / "shards", pieces(*edges()), USERS, ITEMS, per_shard)
    seen: list[None] = []
    found = fit_shards(shards, chosen, iterations=8, progress=lambda: seen.append(None))
    assert_same(found, SpectralFilter.fit(graph_of(*edges()), chosen, iterations=8)[0])
    assert len(seen) == 10
    assert not found.vectors[5].any(), "an item without edges has no direction"


@settings(max_examples=10)
@given(st.integers(0, 999), st.sampled_from([37, 64, 300]), st.integers(50, 900))
def test_shards_hold_the_graph_whatever_the_pieces(
    tmp_path_factory: pytest.TempPathFactory, seed: int, per_shard: int, size: int
) -> None:
    folder = tmp_path_factory.mktemp("shards") / "s"
    some = tuple(each[:900] for each in edges(seed))
    shards = write_shards(folder, pieces(*some, size), USERS, ITEMS, per_shard)  # type: ignore[arg-type]
    graph = graph_of(*some)  # type: ignore[arg-type]
    assert (shards.record.n_likes, shards.record.n_dislikes) == (graph.likes.nnz, graph.dislikes.nnz)
    blocks = list(shards.blocks())
    assert sum(block.n_users for block in blocks) == USERS
    for name in ("likes", "dislikes"):
        items = np.concatenate([getattr(block, name)[1] for block in blocks])
        degrees = np.concatenate([np.diff(getattr(block, name)[0]) for block in blocks])
        np.testing.assert_array_equal(items, getattr(graph, name).indices)
        np.testing.assert_array_equal(degrees, np.diff(getattr(graph, name).indptr))
    assert sum(1 for part in range(3) for _ in shards.blocks(part, 3)) == len(blocks)


@pytest.mark.parametrize("w", [-0.3, 0.7])
def test_the_median_of_counts_is_the_median(w: float) -> None:
    graph = graph_of(*edges())
    block = EdgeBlock(*((each.indptr, each.indices) for each in (graph.likes, graph.dislikes)))
    degrees = np.diff(graph.likes.indptr) + abs(w) * np.diff(graph.dislikes.indptr)
    for first in (0, 1):  # an odd and an even number of users
        cut = EdgeBlock(*((indptr[first:], items) for indptr, items in (block.likes, block.dislikes)))
        counts = DegreeCounts.from_blocks([cut], ITEMS, w)
        active = degrees[first:][degrees[first:] > 0]
        assert counts.n_active == len(active)
        assert counts.median == pytest.approx(np.median(active))
    assert DegreeCounts.from_blocks([], ITEMS, w).median == 1.0


def test_two_processes_give_the_factors_of_one(tmp_path: Path) -> None:
    write_shards(tmp_path / "shards", pieces(*edges()), USERS, ITEMS, 50)
    options = [str(tmp_path / "shards"), "--rank", "12", "--cutoff", "4", "--dislike-weight", "-0.3"]
    options += ["--dislike-aversion", "0.5", "--iterations", "8"]
    assert main([*options, "--output", str(tmp_path / "one.safetensors")]) == 0
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    module = ["-m", "recbole_signed.lab.sharded", *options, "--output", str(tmp_path / "two.safetensors")]
    done = subprocess.run([*launcher, *module], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    one, two = (load_filter(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    assert one.settings == two.settings == SETTINGS
    assert_same(two, one, loose=1e-5)
    same = (one.vectors * two.vectors).sum(dim=0).abs()
    np.testing.assert_allclose(same, 1.0, atol=1e-3)


def test_a_graph_without_edges(tmp_path: Path) -> None:
    shards = write_shards(str(tmp_path / "shards"), [], 10, 4)
    found = fit_shards(shards, SETTINGS)
    assert found.k == 0
    assert (found.n_users, found.median_degree) == (0.0, 1.0)


def test_what_is_wrong_with_shards_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_refused(r"no shards\.json", Shards, tmp_path)
    users, items, signs = edges()
    with pytest.raises(UsageError, match="item ids go from 0 to 69; they must go from 0 to 59"):
        write_shards(tmp_path / "a", [(users, items, signs)], USERS, 60)
    assert list(tmp_path.iterdir()) == [], "nothing half written is left"
    write_shards(tmp_path / "b", [(users, items, signs)], USERS, ITEMS)
    check_refused("users_per_shard is 0", write_shards, tmp_path / "c", [], USERS, ITEMS, 0)
    check_refused("2,147,483,648 items", write_shards, tmp_path / "c", [], USERS, 2**31)
    check_refused("exists", write_shards, tmp_path / "b", [], USERS, ITEMS)
    (tmp_path / "b" / "00000-likes-items.npy").unlink()
    assert main([str(tmp_path / "b"), "--output", str(tmp_path / "f")]) == 2
    assert "00000-likes-items.npy is missing" in capsys.readouterr().err
    (tmp_path / "b" / "shards.json").write_text("{}")
    check_refused("not a record", Shards, tmp_path / "b")
    weak = SignedGraph.from_edges((users, items), (users, items), USERS, ITEMS, (users[:1], items[:1] * 0 + 5), 0.2)
    check_refused("neutral", fit_graph, weak, SETTINGS)


def test_a_filter_survives_its_file(tmp_path: Path) -> None:
    fitted = fit_graph(graph_of(*edges()), SETTINGS)
    save_filter(fitted, tmp_path / "new" / "filter.safetensors")
    again = load_filter(tmp_path / "new" / "filter.safetensors")
    assert again.settings == fitted.settings
    users = graph_of(*edges())
    assert torch.equal(again.scores(users), fitted.scores(users))
    (tmp_path / "other").write_bytes(b"nothing of the kind")
    for wrong in ("other", "absent"):
        check_refused("can't read a filter", load_filter, tmp_path / wrong)


@pytest.mark.parametrize(("users", "items", "chunk"), [(1, 16, 2), (7, 24, 2), (128, 16, 3), (128, 16_384, 64)])
def test_the_best_items_are_those_of_the_scores(
    users: int, items: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("ssf.filter.USERS", users), ("ssf.filter.ITEMS", items), ("graph.top_scores.CHUNK", chunk)):
        monkeypatch.setattr(f"recbole_signed.{name}", value)
    graph = graph_of(*edges())
    fitted = fit_graph(graph, replace(SETTINGS, popularity_floor=0.3, dislike_aversion=0.5))
    small = fitted.top(graph, 2)
    np.testing.assert_allclose(small[1], fitted.top(graph, 10)[1][:, :2], rtol=1e-5)
    scores = fitted.scores(graph)
    found, values = fitted.top(graph, 10, hide=False)
    np.testing.assert_allclose(values, scores.topk(10, dim=1).values, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(scores.gather(1, found), values, rtol=1e-4, atol=1e-6)
    seen = torch.from_numpy((graph.likes + graph.dislikes).toarray() != 0)
    scores[seen] = -torch.inf
    found, values = fitted.top(graph, 10)
    np.testing.assert_allclose(values, scores.topk(10, dim=1).values, rtol=1e-4, atol=1e-6)
    assert not seen.gather(1, found)[values > -torch.inf].any()
    assert fitted.top(graph, 1000)[0].shape == (USERS, ITEMS)
