from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from recbole_signed.atomic import read_rows
from recbole_signed.errors import UsageError
from recbole_signed.lab.synth import generate, write, writer
from recbole_signed.lab.synth.generator import SyntheticGraph
from recbole_signed.lab.synth.writer import Origin, load

ORIGIN = Origin("kuairand", 12_000, 5)


@pytest.fixture(scope="module")
def graph() -> SyntheticGraph:
    return generate("kuairand", 12_000, 5)


def test_atomic_files_hold_the_graph(graph: SyntheticGraph, tmp_path: Path) -> None:
    written: list[int] = []
    record = write(graph, tmp_path / "g", ORIGIN, progress=written.append)
    assert sum(written) == len(graph)
    lines = (tmp_path / "g" / "g.inter").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "user_id:token\titem_id:token\tsign:float\ttimestamp:float"
    table = np.array([line.split("\t") for line in lines[1:]], dtype=np.int64)
    expected = [graph.users, graph.items, graph.signs, graph.times]
    np.testing.assert_array_equal(table, np.stack(expected, axis=1))
    assert record == json.loads((tmp_path / "g" / "dataset.json").read_text(encoding="utf-8"))
    assert record["options"] == {"profile": "kuairand", "edges": 12_000, "seed": 5}
    assert record["rows"] == {
        "total": 12_000,
        "like": int((graph.signs > 0).sum()),
        "dislike": int((graph.signs < 0).sum()),
        "neutral": 0,
    }
    digest = hashlib.sha256((tmp_path / "g" / "g.inter").read_bytes()).hexdigest()
    assert record["outputs"]["g.inter"] == digest
    rows = read_rows(tmp_path / "g")
    assert (len(rows), rows.n_users, rows.n_items) == (12_000, graph.n_users, graph.n_items)


def test_rows_are_written_piece_by_piece(
    graph: SyntheticGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(graph, tmp_path / "whole" / "g", ORIGIN)
    monkeypatch.setattr(writer, "_CHUNK", 5_000)
    written: list[int] = []
    write(graph, tmp_path / "pieces" / "g", ORIGIN, progress=written.append)
    assert written == [5_000, 5_000, 2_000]
    whole, pieces = ((tmp_path / each / "g" / "g.inter").read_bytes() for each in ("whole", "pieces"))
    assert pieces == whole


def test_recbole_reads_the_atomic_files(graph: SyntheticGraph, tmp_path: Path) -> None:
    from recbole.config import Config
    from recbole.data import create_dataset

    write(graph, tmp_path / "sets" / "g", ORIGIN)
    config = Config(model="BPR", dataset="g", config_dict={"data_path": str(tmp_path / "sets"), "state": "ERROR"})
    dataset = create_dataset(config)
    assert len(dataset.inter_feat) == int((graph.signs > 0).sum()), "RecBole sees the likes"
    assert dataset.user_num - 1 == graph.n_users


def test_the_same_graph_gives_the_same_bytes(graph: SyntheticGraph, tmp_path: Path) -> None:
    for how in ("inter", "npz"):
        for folder in ("a", "b"):
            write(graph, tmp_path / folder / how, ORIGIN, how)
        first, second = (sorted((tmp_path / folder / how).iterdir()) for folder in ("a", "b"))
        assert [each.read_bytes() for each in first] == [each.read_bytes() for each in second]


def test_arrays_come_back(graph: SyntheticGraph, tmp_path: Path) -> None:
    write(graph, tmp_path / "g", ORIGIN, "npz")
    for path in (tmp_path / "g", tmp_path / "g" / "g.npz"):
        found = load(path)
        assert (found.n_users, found.n_items) == (graph.n_users, graph.n_items)
        for name in ("users", "items", "signs", "times"):
            np.testing.assert_array_equal(getattr(found, name), getattr(graph, name))
            assert getattr(found, name).dtype == getattr(graph, name).dtype


def test_what_is_in_the_way_is_refused(graph: SyntheticGraph, tmp_path: Path) -> None:
    write(graph, tmp_path / "g", ORIGIN)
    with pytest.raises(UsageError, match="already there; give overwrite=True"):
        write(graph, tmp_path / "g", ORIGIN)
    write(graph, tmp_path / "g", ORIGIN, "npz", overwrite=True)
    assert sorted(path.name for path in (tmp_path / "g").iterdir()) == ["dataset.json", "g.npz"]
    (tmp_path / "mine").mkdir()
    with pytest.raises(UsageError, match="not a data set that recbole-signed made"):
        write(graph, tmp_path / "mine", ORIGIN, overwrite=True)
    with pytest.raises(UsageError, match=r"--format is 'intr'.*did you mean 'inter'"):
        write(graph, tmp_path / "other", ORIGIN, "intr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g", "mine"], "nothing is left behind"


def test_a_failure_leaves_what_was_there(
    graph: SyntheticGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(graph, tmp_path / "g", ORIGIN)
    before = (tmp_path / "g" / "g.inter").read_bytes()

    def full_disk(rows: int) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        write(graph, tmp_path / "g", ORIGIN, overwrite=True, progress=full_disk)
    assert (tmp_path / "g" / "g.inter").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["g"]


def test_loading_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no .*synth --format npz"):
        load(tmp_path)
    np.savez(tmp_path / "other.npz", users=np.zeros(3))
    with pytest.raises(UsageError, match="has no array 'items'"):
        load(tmp_path / "other.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "other.npz").read_bytes()[:100])
    np.save(tmp_path / "one.npy", np.zeros(3))
    np.savez(tmp_path / "objects.npz", users=np.array([object()]))
    for name in ("cut.npz", "one.npy", "objects.npz"):
        with pytest.raises(UsageError, match=f"{name} is not a whole archive of arrays of numbers"):
            load(tmp_path / name)
