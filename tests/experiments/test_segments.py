"""Segments of users and items, on planted groups."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from recbole_signed.cli import app as cli
from recbole_signed.convert import convert
from recbole_signed.errors import UsageError
from recbole_signed.experiments.analysis import centres, label_nodes
from recbole_signed.experiments.analysis import user_segments as module
from recbole_signed.graph import SignedGraph
from recbole_signed.ssf import FilterSettings, SpectralFilter

WORDS = ("auto=False", "rank=8", "cutoff=4", "state=ERROR")


def planted(seed: int = 0) -> SignedGraph:
    """Users 0-99, 100-159, 160-189 and items 0-29, 30-49, 50-59 in three tastes; user 190, item 60 have no edge."""
    rng = np.random.default_rng(seed)
    user, item = np.repeat([0, 1, 2], [100, 60, 30]), np.repeat([0, 1, 2], [30, 20, 10])
    seen = rng.random((190, 60)) < np.where(user[:, None] == item, 0.6, 0.06)
    liked = rng.random((190, 60)) < np.where(user[:, None] == item, 0.9, 0.2)
    likes, dislikes = (np.argwhere(each).T for each in (seen & liked, seen & ~liked))
    return SignedGraph.from_edges((likes[0], likes[1]), (dislikes[0], dislikes[1]), 191, 61)


@pytest.mark.parametrize("rows", [17, 65_536])
def test_planted_groups_are_found(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", rows)
    graph = planted()
    fitted, _ = SpectralFilter.fit(graph, FilterSettings(rank=6, cutoff=3))
    users, items = label_nodes(fitted, graph, 3, 3, seed=0)
    assert users[190] == items[60] == -1
    assert (users[:190] == np.repeat([0, 1, 2], [100, 60, 30])).mean() > 0.97, "largest first"
    assert (items[:60] == np.repeat([0, 1, 2], [30, 20, 10])).mean() > 0.97
    again = label_nodes(fitted, graph, 3, 3, seed=0)
    np.testing.assert_array_equal(again[0], users)


def test_a_sample_gives_the_centres(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLE", 50)
    graph = planted(1)
    fitted, _ = SpectralFilter.fit(graph, FilterSettings(rank=6, cutoff=3))
    users, _ = label_nodes(fitted, graph, 3, 3, seed=0)
    assert (users[:190] == np.repeat([0, 1, 2], [100, 60, 30])).mean() > 0.95


def test_more_segments_than_points() -> None:
    points = np.repeat(np.eye(2, dtype=np.float32), 5, axis=0)
    assert sorted(centres(points, 8, seed=0).tolist()) == [[0, 1], [1, 0]]
    assert centres(points, 1, seed=0).tolist() == [[0.5, 0.5]]


def test_a_graph_without_edges_has_no_segments() -> None:
    nothing = np.zeros(0, dtype=np.int64)
    graph = SignedGraph.from_edges((nothing, nothing), (nothing, nothing), 3, 2)
    fitted, _ = SpectralFilter.fit(graph, FilterSettings(rank=2, cutoff=1))
    with pytest.raises(UsageError, match="no edge"):
        label_nodes(fitted, graph, 2, 2, seed=0)


def test_the_command_counts_every_verdict_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    convert("toy", None, tmp_path / "atomic_files")
    words = ["segments", "-d", "toy-signed", "--users", "3", "--items", "2", *WORDS]
    with pytest.raises(SystemExit) as exit_:
        cli.main([*words, "--json"])
    assert not exit_.value.code
    found = json.loads(capsys.readouterr().out)
    sizes = {side: [each["size"] for each in found[side]] for side in ("users", "items")}
    for side, at_most in (("users", 60), ("items", 42)):
        assert sizes[side] == sorted(sizes[side], reverse=True)
        assert sum(sizes[side]) <= at_most
        lines = Path(f"runs/segments/toy-signed-{side}.tsv").read_text().splitlines()[1:]
        labels = [int(line.split("\t")[1]) for line in lines]
        assert np.bincount(labels).tolist() == sizes[side]
    likes, dislikes = (sum(each[name] for each in found["users"]) for name in ("likes", "dislikes"))
    assert likes == sum(each["likes"] for each in found["items"])
    assert sum(map(sum, found["verdicts"])) == likes + dislikes
    weighted = [
        rate * count
        for rates, counts in zip(found["like_rate"], found["verdicts"], strict=True)
        for rate, count in zip(rates, counts, strict=True)
        if rate is not None
    ]
    assert sum(weighted) == pytest.approx(likes, rel=1e-4)
    assert "assigned" not in found
    assert Path("runs/segments/SSF-toy-signed.png").stat().st_size > 5_000
    with pytest.raises(SystemExit):
        cli.main(words)
    assert "Like rate of user segment (row)" in capsys.readouterr().out


def test_what_is_wrong_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    convert("toy", None, tmp_path / "atomic_files")
    for words, message in ((("--users", "0"), "--users is 0"), (("-m", "BPR"), "BPR has no 'filter'")):
        with pytest.raises(SystemExit) as exit_:
            cli.main(["segments", "-d", "toy-signed", *words, "state=ERROR"])
        assert exit_.value.code == 2
        assert message in capsys.readouterr().err


def test_the_ablation_table_is_one(repository: Path) -> None:
    from recbole_signed.experiments.tables import TableSpec

    spec = TableSpec.read(repository / "yaml" / "bench" / "ssf-ablation.yaml")
    fixed = spec.common
    assert {"w = -1", "w = 0", "w = +1", "without dislikes", "without degree normalisation"} < set(spec.models)
    ranks = [{**fixed, **each}["rank"] for label, each in spec.models.items() if label.startswith("k =")]
    assert ranks == [16, 32, 64, 128, 512]
    assert spec.models["without degree normalisation"]["degree_exponent"] == 0
