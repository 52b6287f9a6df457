"""A run keeps the version of its data and refuses files that changed, whichever way it is started."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from recbole_signed.convert import convert
from recbole_signed.errors import UsageError
from recbole_signed.runs import data_sha256
from recbole_signed.runs.provenance import data_version

QUICK = {"epochs": 1, "state": "ERROR", "embedding_size": 4, "show_progress": False}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return convert("toy", None, tmp_path / "atomic_files")


def change(folder: Path) -> None:
    path = folder / "toy-signed.inter"
    text = path.read_text()
    assert "\t5\t1\t" in text
    path.write_text(text.replace("\t5\t1\t", "\t5\t0\t", 1))


def test_the_row_has_the_version(folder: Path) -> None:
    from recbole_signed.runs import run

    row = run("BPR", "toy-signed", overrides=QUICK, save=False)
    record = json.loads((folder / "dataset.json").read_text())
    assert row.data_version == record["version"] == data_version(folder, "toy-signed")
    assert row.data_sha256 is not None
    assert row.data_sha256.startswith(row.data_version)
    assert row.as_dict()["data_version"] == row.data_version


def test_without_a_manifest_there_is_no_version(folder: Path) -> None:
    whole = data_sha256(folder, "toy-signed")
    (folder / "dataset.json").unlink()
    assert data_version(folder, "toy-signed") is None
    assert data_sha256(folder, "toy-signed") == whole
    change(folder)
    assert data_sha256(folder, "toy-signed") != whole


def test_changed_files_are_refused_by_run_and_by_run_recbole(folder: Path) -> None:
    from recbole.quick_start import run_recbole

    from recbole_signed.runs import run

    change(folder)
    message = r"the data set 'toy-signed' has changed since it was made: .*recbole-signed data accept toy-signed"
    with pytest.raises(UsageError, match=message):
        run("BPR", "toy-signed", overrides=QUICK, save=False)
    with pytest.raises(UsageError, match=message):
        run_recbole("BPR", "toy-signed", config_dict=QUICK)
    with pytest.raises(UsageError, match=message):
        data_sha256(folder, "toy-signed")


def test_a_file_that_changes_while_it_is_loaded_is_noticed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recbole_signed.runs import runner as module

    create = module.create_dataset

    def late(config: object) -> object:
        data = create(config)
        change(folder)
        return data

    monkeypatch.setattr(module, "create_dataset", late)
    with pytest.raises(UsageError, match=r"has changed since it was made: .*toy-signed.inter differs"):
        module.run("BPR", "toy-signed", overrides=QUICK, save=False)


def test_a_table_refuses_them_before_anything_runs(folder: Path, tmp_path: Path) -> None:
    from recbole_signed.runs import compare

    change(folder)
    table = tmp_path / "table.yaml"
    table.write_text("models: [BPR]\ndatasets: [toy-signed]\nseeds: [1]\n")
    with pytest.raises(UsageError, match="has changed since it was made"):
        compare(table, [], tmp_path / "out", 1)


def test_a_model_that_reads_other_files_has_other_rows(folder: Path, tmp_path: Path) -> None:
    from recbole_signed.runs import TableSpec

    other = tmp_path / "other" / folder.name
    shutil.copytree(folder, other)
    change(other)
    (other / "dataset.json").unlink()
    table = tmp_path / "paths.yaml"
    table.write_text(
        "datasets: [toy-signed]\ncolumns: [recall@10]\nmodels:\n  Pop:\n"
        f"  elsewhere: {{model: Pop, data_path: {other.parent}}}\n"
    )
    here, there = TableSpec.read(table).requests()
    assert (here.data_sha256, there.data_sha256) == (data_sha256(folder, folder.name), data_sha256(other, folder.name))
    assert here.key != there.key
