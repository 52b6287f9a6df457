"""Segments of users and items, on planted groups."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import check_command_refused, printed
from refusals import check_refused

from recbole_signed.graph import SignedGraph
from recbole_signed.lab.analysis import user_segments as module
from recbole_signed.lab.analysis.user_segments import centres, label_nodes
from recbole_signed.runs import TableSpec
from recbole_signed.runs import fitted as fitting
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
    np.testing.assert_array_equal(label_nodes(fitted, graph, 3, 3, seed=0)[0], users)


def test_a_sample_gives_the_centres(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLE", 50)
    graph = planted(1)
    fitted, _ = SpectralFilter.fit(graph, FilterSettings(rank=6, cutoff=3))
    users, _ = label_nodes(fitted, graph, 3, 3, seed=0)
    assert (users[:190] == np.repeat([0, 1, 2], [100, 60, 30])).mean() > 0.95


def test_factors_have_length_1_and_their_products_are_exposure_scores() -> None:
    graph = planted()
    fitted, _ = SpectralFilter.fit(graph, FilterSettings(rank=6, cutoff=3))
    users = np.flatnonzero(fitted.degrees(graph).numpy() == fitted.median_degree)  # to others the bands differ
    assert len(users) > 3
    of_user, of_item = module.user_factors(fitted, graph, users), module.item_factors(fitted)
    assert np.linalg.norm(of_user, axis=1) == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(of_item[:60], axis=1) == pytest.approx(1, abs=1e-5)
    assert not of_item[60].any()
    response = fitted.response(fitted.values.new_tensor([fitted.median_degree])).numpy()
    lengths = np.linalg.norm(fitted.vectors[:, : fitted.k].numpy() * np.sqrt(response), axis=1)
    exposure = fitted.exposure(graph.rows(users)).numpy()
    exposure /= np.linalg.norm(exposure, axis=1, keepdims=True)
    products = (of_user @ of_item.T) * lengths
    products /= np.linalg.norm(products, axis=1, keepdims=True)
    np.testing.assert_allclose(products, exposure, atol=1e-4)


def test_a_user_of_dislikes_alone_has_a_segment() -> None:
    whole = planted()
    user, item = whole.dislikes.nonzero()
    dislikes = np.append(user, [190, 190]), np.append(item, [0, 1])
    graph = SignedGraph.from_edges(whole.likes.nonzero(), dislikes, 191, 61)
    fitted, _ = SpectralFilter.fit(graph, FilterSettings(rank=6, cutoff=3))
    users, _ = label_nodes(fitted, graph, 3, 3, seed=0)
    assert users[190] >= 0


def test_the_best_of_several_starts_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(0).standard_normal((60, 2)).astype(np.float32)

    def inertia(starts: int, seed: int) -> float:
        monkeypatch.setattr(module, "STARTS", starts)
        distance = np.linalg.norm(points[:, None] - centres(points, 9, seed)[None], axis=2).min(axis=1)
        return float(np.square(distance).sum())

    found = np.array([[inertia(starts, seed) for starts in (1, 2, 3, 5)] for seed in range(4)])
    assert (np.diff(found, axis=1) <= 1e-4).all()
    assert (found[:, -1] < found[:, 0] - 1e-3).any()


def test_few_points_and_no_edges() -> None:
    points = np.repeat(np.eye(2, dtype=np.float32), 5, axis=0)
    assert sorted(centres(points, 8, seed=0).tolist()) == [[0, 1], [1, 0]]
    assert centres(points, 1, seed=0).tolist() == [[0.5, 0.5]]
    nothing = np.zeros(0, dtype=np.int64)
    graph = SignedGraph.from_edges((nothing, nothing), (nothing, nothing), 3, 2)
    fitted, _ = SpectralFilter.fit(graph, FilterSettings(rank=2, cutoff=1))
    check_refused("no edge", label_nodes, fitted, graph, 2, 2, seed=0)


def test_the_command_counts_every_verdict_once(toy: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["segments", "-d", "toy-signed", "--users", "3", "--items", "2", *WORDS]
    found = json.loads(printed(capsys, *words, "--json"))
    sizes = {side: [each["size"] for each in found[side]] for side in ("users", "items")}
    for side, at_most in (("users", 60), ("items", 42)):
        assert sizes[side] == sorted(sizes[side], reverse=True)
        assert sum(sizes[side]) <= at_most
        lines = Path(f"runs/segments/SSF-toy-signed-{side}.tsv").read_text().splitlines()[1:]
        assert np.bincount([int(line.split("\t")[1]) for line in lines]).tolist() == sizes[side]
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
    assert "Like rate of user segment (row)" in printed(capsys, *words)


def test_rates_and_examples_are_those_of_the_training_part(toy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    fit_once = fitting.fit_once
    monkeypatch.setattr(fitting, "fit_once", lambda *args, **words: kept.append(fit_once(*args, **words)) or kept[-1])
    found = module.segments("toy-signed", 3, 2, overrides={"auto": False, "rank": 8, "cutoff": 4, "state": "ERROR"})
    graph, tokens = kept[0].model.graph, kept[0].data.field2id_token["item_id"]
    likes, dislikes = (each.toarray() for each in (graph.likes, graph.dislikes))
    for side, axis in (("users", 1), ("items", 0)):
        names = kept[0].data.field2id_token[f"{side[:-1]}_id"]
        for number, each in enumerate(found[side]):
            inside = [node for node, name in enumerate(names) if found["assigned"][side].get(str(name)) == number]
            of_it = [int(part.sum(axis=axis)[inside].sum()) for part in (likes, dislikes)]
            assert [each["likes"], each["dislikes"]] == of_it
            assert each["like_rate"] == pytest.approx(of_it[0] / sum(of_it), abs=1e-6)
            if side == "items":
                best = sorted(inside, key=lambda item: (-likes[:, item].sum(), item))[: module.EXAMPLES]
                assert each["examples"] == [str(tokens[item]) for item in best]


def test_what_is_wrong_is_said(toy: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (("--users", "0"), "--users is 0"),
        (("--items", "101"), "--items is 101; it must be 1 to 100"),
        (("-m", "BPR"), "BPR has no spectral filter, which is needed here; give SSF"),
    ):
        check_command_refused(message, capsys, "segments", "-d", toy, *words, "state=ERROR")


def test_the_ablation_table_is_one(repository: Path) -> None:
    spec = TableSpec.read(repository / "yaml" / "bench" / "ssf-ablation.yaml")
    fixed = spec.common
    assert {"w = -1", "w = 0", "w = +1", "without dislikes", "without degree normalisation"} < set(spec.models)
    ranks = [{**fixed, **each}["rank"] for label, each in spec.models.items() if label.startswith("k =")]
    assert ranks == [16, 32, 64, 128, 512]
    assert spec.models["without degree normalisation"]["degree_exponent"] == 0
