"""Tables that extend tables, share their runs, and say which costs they show."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from refusals import check_refused

from recbole_signed.live.replay.stream_spec import StreamSpec
from recbole_signed.plugin import registry
from recbole_signed.plugin.facts import facts_of
from recbole_signed.runs import RowStore, RunRow, TableSpec, compare, table_settings
from recbole_signed.runs.rows import append_row, read_rows
from recbole_signed.runs.spec import RunSpec
from recbole_signed.runs.stored import stored_table
from recbole_signed.runs.user_values import drawn_by_seed
from recbole_signed.table import to_markdown

BASE = """
title: Base
note: Of the base.
datasets:
  toy-signed: {epochs: 3}
  again: {dataset: toy-signed, eval_args: {order: TO, split: {RS: [6, 2, 2]}}}
common: {metrics: [Recall], topk: [5], valid_metric: Recall@5, training_budget: 60}
models:
  Pop:
  BPR: {learning_rate: 0.01, per_dataset: {again: {epochs: 9}}}
  EASE: {reg_weight: 7.0}
seeds: [1, 2]
columns: [recall@5]
"""
Write = Callable[..., Path]


@pytest.fixture
def write(write: Write) -> Write:
    """Write a table beside that which it may extend."""
    write(BASE, "base")
    return partial(write, name="other")


SERVED = """if request.serving:
    row = RunRow(**{**vars(row), "serve_seconds": 0.5, "model_bytes": 4_000_000})
"""


def requests(path: Path) -> dict[str, RunSpec]:
    return {request.title: request for request in TableSpec.read(path).requests()}


# ---- extends ----


def test_names_and_keys_of_another_table(write: Write) -> None:
    spec = TableSpec.read(write("extends: base.yaml\ntitle: Mine\n"))
    assert (spec.title, spec.note, spec.seeds, spec.columns) == ("Mine", "Of the base.", (1, 2), ("recall@5",))
    base = requests(write("extends: base.yaml\n").with_name("base.yaml"))
    assert requests(write("extends: base.yaml\n")) == base
    assert len(base) == 2 * 2 + 2 * 2 + 2 * 2 - 2
    own = requests(write("extends: base.yaml\nmodels: [EASE, BPR]\ncolumns: [recall@5]\n"))
    assert own
    assert all(request.key == base[title].key for title, request in own.items())
    changed = requests(write("extends: base.yaml\nmodels: {EASE: {reg_weight: 8.0}}\n"))
    assert all(request.key != base[title].key for title, request in changed.items())


def test_listed_names_are_the_tables_own_with_the_keys_of_the_other(write: Write) -> None:
    text = (
        "extends: base.yaml\ncommon: {training_budget: 5}\ndatasets: [toy-signed]\n"
        "models: {BPR: {embedding_size: 8}, 'EASE, less': {model: EASE}, Random: }\nseeds: [1]\n"
    )
    assert list(TableSpec.read(write(text)).models) == ["BPR", "EASE, less", "Random"]
    found = requests(write(text))
    common = {"metrics": ["Recall"], "topk": [5], "valid_metric": "Recall@5", "training_budget": 5, "epochs": 3}
    bpr = found["BPR on toy-signed, seed 1"].settings
    assert bpr == {**common, "learning_rate": 0.01, "embedding_size": 8}, "nothing of a data set that is not here"
    assert found["EASE, less on toy-signed, seed 1"].settings == common
    assert len(found) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: other.yaml\n", "leads back.*a table can't extend itself"),
        ("extends: bse.yaml\n", "can't read .*did you mean 'base.yaml'"),
        *(
            (f"extends: {each}\n", "'extends' must name")
            for each in ("[]", "7", "[base.yaml, a.yaml]", "{base.yaml: 1}")
        ),
        ("extends: base.yaml\nmodels: {EASE: {per_dataset: {toy: {epochs: 1}}}}\n", "has settings on 'toy'"),
        ("extends: base.yaml\nmodels: [Popp]\n", "no model named 'Popp'"),
        ("extends: base.yaml\ncosts: [trian]\n", r"'costs' has no 'trian' \(expected .*\); did you mean 'train'\?$"),
        ("extends: base.yaml\ncosts: train\n", "'costs' must be a list of names"),
        ("extends: base.yaml\nrelative_to: [SSF]\n", "'relative_to' has no 'SSF'"),
        ("extends: base.yaml\ncosts: [serve]\n", "the costs serve are measured under 'serving: true' alone"),
        ("extends: base.yaml\nserving: 1\n", "'serving' must be true or false, but is 1"),
        ("extends: base.yaml\ncolumns: ['recall@5[users]']\n", "must read like recall@20"),
        (
            "extends: base.yaml\ncommon: {metrics: [GroupRecall]}\ncolumns: ['recall@5[users 1-6]']\n",
            "is of no group of Pop's runs: users 0, users 1-5",
        ),
    ],
)
def test_bad_tables(write: Write, text: str, message: str) -> None:
    check_refused(message, requests, write(text))


def test_names_of_models_and_seeds_of_what_draws_nothing(write: Write) -> None:
    named, written = (
        requests(write(f"extends: base.yaml\nmodels: {models}\n"))
        for models in ("[SSF-L, ssf-t]", "{SSF-L: {model: SSFL}, ssf-t: {model: SSFT}}")
    )
    assert named == written
    assert {each.model for each in named.values()} == {"SSFL", "SSFT"}
    found = requests(write("extends: base.yaml\n"))
    assert [title for title in found if title.startswith("EASE on toy-signed")] == [
        "EASE on toy-signed, seed 1",
        "EASE on toy-signed, seed 2",
    ], "the random split has a seed"
    assert [title for title in found if title.startswith("EASE on again")] == ["EASE on again, seed 1"]
    assert len([title for title in found if title.startswith("BPR on again")]) == 2
    asked = requests(write("extends: base.yaml\nmodels: {EASE: {seeds: [2, 3]}}\ndatasets: [again]\n"))
    assert [request.seed for request in asked.values()] == [2, 3]


def test_chains_columns_by_group_and_serving(write: Write) -> None:
    write("extends: other.yaml\n", name="third")
    check_refused("a table can't extend itself", TableSpec.read, write("extends: third.yaml\n"))
    text = "extends: base.yaml\ncommon: {metrics: [GroupRecall], user_groups: [6]}\ncolumns: ['recall@5[users 0-6]']\n"
    assert requests(write(text))
    assert all(each.serving for each in requests(write("extends: base.yaml\nserving: true\n")).values())
    assert not any(each.serving for each in requests(write("extends: base.yaml\n")).values())


# ---- seeds ----


@pytest.mark.parametrize(
    ("eval_args", "n_seeds"),
    [
        ("{order: TO, split: {RS: [8, 1, 1]}}", 1),
        ("{order: TO, split: {CI: [0.7, 0.1, 0.2]}}", 2),
        ("{order: TO, split: {CU: [0.7, 0.1, 0.2]}}", 2),
        ("{order: TO, mode: uni20}", 2),
        ("{order: TO, mode: {valid: full, test: pop20}}", 2),
        ("{split: {LS: valid_and_test}}", 2),
    ],
)
def test_what_a_split_draws_whatever_its_order_has_all_seeds(write: Write, eval_args: str, n_seeds: int) -> None:
    keys = f"{{dataset: toy-signed, eval_args: {eval_args}}}"
    assert len(requests(write(f"extends: base.yaml\nmodels: [EASE]\ndatasets: {{new: {keys}}}\n"))) == n_seeds
    assert drawn_by_seed([RunRow("EASE", "toy-signed", 1, split=yaml.safe_load(eval_args))]) == (n_seeds > 1)


@pytest.mark.parametrize("model", [each for each in registry.known_model_names() if facts_of(each).seedless])
def test_seedless_models_give_the_same_with_any_seed(model: str, toy: str) -> None:
    from recbole_signed.runs import run

    settings = {"state": "ERROR", "eval_args": {"order": "TO"}, "topk": [5], "valid_metric": "NDCG@5"}
    settings |= {"metrics": ["Recall", "NDCG", "SignAUC"], "metric_decimal_place": 6}
    rows = [run(model, "toy-signed", overrides=settings, seed=seed, save=False) for seed in (1, 77)]
    assert rows[0].test == rows[1].test


# ---- one run for many tables ----


def test_a_run_of_another_table_in_the_folder_is_not_repeated(write: Write, runs: Any) -> None:
    own = write(
        "extends: base.yaml\nmodels: {EASE: , 'My BPR': {model: BPR, learning_rate: 0.01}}\ndatasets: [again]\n"
    )
    base = own.with_name("base.yaml")
    compare(base)
    assert len(runs.started()) == 10
    comparison = compare(own)
    assert runs.started() == ["My BPR on again, seed 1", "My BPR on again, seed 2"], "9 epochs there, the default here"
    assert comparison.n_new == 2
    assert [row.label for row in comparison.rows] == ["EASE", "My BPR", "My BPR"]
    kept = [row.id for name in (base, own) for row in read_rows(name.with_suffix(".jsonl"))]
    assert len(kept) == len(set(kept)) == 12, "a row lies once"
    assert [row.label for row in read_rows(own.with_suffix(".jsonl"))] == ["My BPR", "My BPR"]
    printed = stored_table(own)
    assert printed is not None
    assert to_markdown(printed.table) == to_markdown(comparison.table) == own.with_suffix(".md").read_text("utf-8")
    base.with_suffix(".jsonl").unlink()
    assert compare(own).n_new == 1
    compare(base)
    assert len(runs.started()) == 10, "the row goes back"


def test_elsewhere_nothing_is_taken_over(write: Write, runs: Any, tmp_path: Path) -> None:
    own = write("extends: base.yaml\nmodels: [EASE]\ndatasets: [again]\n")
    compare(own.with_name("base.yaml"))
    runs.started()
    compare(own, output=tmp_path / "runs of one's own")
    assert runs.started() == ["EASE on again, seed 1"]


def test_files_that_hold_no_rows_or_failed_ones_give_none(tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").write_text('{"a": 1}\n[2]\nnot json\n\xff\n', encoding="latin-1")
    append_row(tmp_path / "x.jsonl", RunRow("BPR", "toy", 1, status="failed", request_hash="h"))
    append_row(tmp_path / "x.jsonl", RunRow("BPR", "toy", 2))
    append_row(tmp_path / "x.jsonl", RunRow("BPR", "toy", 3, request_hash="h"))
    key = RunRow("BPR", "toy", 3, request_hash="h").key
    assert [row.seed for row in RowStore(tmp_path / "own.jsonl").by_id().values()] == [3]
    assert RowStore(tmp_path / "own.jsonl").find(key) == RowStore(tmp_path / "x.jsonl").find(key)


def test_a_table_that_measures_serving_repeats_runs_without_and_gives_its_own(write: Write, runs: Any) -> None:
    text = "extends: base.yaml\nmodels: [EASE]\ndatasets: [again]\n"
    cost = write(f"{text}serving: true\ncosts: [serve, size]\nrelative_to: [best]\n", name="cost")
    plain = write(text)
    runs.become(SERVED)
    compare(plain)
    assert len(runs.started()) == 1
    comparison = compare(cost)
    assert len(runs.started()) == 1
    assert compare(cost).n_new == 0
    headers = [column.header for column in comparison.table.columns]
    assert headers == [*("Recall@5", "Rank 1,000 users (ms)", "Rank 1,000 users / best", "Model (MB)", "Model / best")]
    assert "| EASE | 1 | **0.5000** | **500.0** | 1.00 | **4.000** | 1.00 |" in to_markdown(comparison.table)
    plain.with_suffix(".jsonl").unlink()
    compare(plain)
    assert runs.started() == [], "a row with more in it is as good"


SECOND = """
title: Second
datasets: {toy-signed: {epochs: 4, pool: both}, third: {dataset: toy-signed, pool: both, embedding_size: 8}}
common: {metrics: [Recall], topk: [5], valid_metric: NDCG@5}
models:
  BPR: {learning_rate: 0.5}
  LightGCN: {n_layers: 1, per_dataset: {both: {n_layers: 2}, third: {n_layers: 3}}}
  ItemKNN: {per_dataset: {third: false}}
columns: [ndcg@5]
"""


def test_a_table_may_show_the_rows_of_several(write: Write) -> None:
    write(SECOND, name="second")
    spec = TableSpec.read(write("rows_from: [base.yaml, second.yaml]\n"))
    assert (spec.title, spec.columns, spec.seeds) == ("Base", ("recall@5",), (1, 2))
    rows = {section: {row.label: row for row in spec.planned_rows(section)} for section in spec.datasets}
    assert {section: list(found) for section, found in rows.items()} == {
        "toy-signed": ["Pop", "BPR", "EASE", "LightGCN", "ItemKNN"],
        "again": ["Pop", "BPR", "EASE"],
        "third": ["LightGCN"],
    }
    for name in ("base", "second"):
        base = TableSpec.read(write(SECOND, name="second").with_name(f"{name}.yaml"))
        for section in base.datasets:
            for row in base.planned_rows(section):
                if (name, row.label) != ("second", "BPR"):  # the first table that has a model says how it runs
                    assert rows[section][row.label] == row
    assert spec.pools() == {"both": ["toy-signed", "third"], "again": ["again"]}


def test_what_is_shown_of_other_tables_is_chosen(write: Write) -> None:
    write(SECOND, name="second")
    text = """
rows_from: [base.yaml, second.yaml]
title: Mine
datasets: [third, toy-signed]
models: {LightGCN: {per_dataset: {toy-signed: false}}, EASE: }
"""
    spec = TableSpec.read(write(text))
    assert spec.title == "Mine"
    assert [row.label for row in spec.planned_rows("third")] == ["LightGCN"]
    assert [row.label for row in spec.planned_rows("toy-signed")] == ["EASE"]
    assert [each.label for each in spec.only(["EASE"]).requests()] == ["EASE"] * 2
    one = write("rows_from: [base.yaml]\ndatasets: [toy-signed]\n")
    (keys,) = table_settings(one, "toy-signed", ["EASE"], data_path="atomic_files").values()
    assert keys["data_path"] == "atomic_files"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: {BPR: {learning_rate: 0.02}}", "BPR runs as the tables under 'rows_from' say"),
        ("models: {BPR: {per_dataset: {again: {epochs: 1}}}}", "BPR runs as the tables under 'rows_from' say"),
        ("datasets: {again: {epochs: 8}}", "again runs as the tables under 'rows_from' say"),
        ("common: {epochs: 8}", "'common' says how models run"),
        ("models: [MultiVAE]", "no table under 'rows_from' has 'MultiVAE'"),
        ("datasets: [agan]", "no table under 'rows_from' has 'agan'; did you mean 'again'"),
        ("rows_from: [base.yaml, third.yaml]", "'again' in third.yaml is not the data set toy-signed"),
        ("rows_from: base.yaml", "'rows_from' must name a list of tables' files"),
        ("rows_from: [base.yaml]\nextends: base.yaml", "neither extends another nor is extended"),
        ("rows_from: []", "'rows_from' must name a list of tables' files"),
        ("rows_from: [base.yaml, other.yaml]", "'rows_from' leads back to other.yaml"),
    ],
)
def test_a_table_of_rows_of_others_says_nothing_of_runs(write: Write, text: str, message: str) -> None:
    write(SECOND, name="second")
    write("datasets: {again: }\nmodels: [Random]\n", name="third")
    whole = text if "rows_from" in text else f"rows_from: [base.yaml, second.yaml]\n{text}\n"
    check_refused(message, TableSpec.read, write(whole))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("common: [1]", "'common' must be a mapping of RecBole keys, but is"),
        ("models: {Pop: {per_dataset: [again]}}", "Pop: 'per_dataset' must be a mapping"),
        (
            "models: {Pop: {per_dataset: {again: true}}}",
            "Pop: 'per_dataset' must map data sets to RecBole keys, or to false",
        ),
        ("datasets: {again: {pool: [1]}}", "again: 'pool' must be a name"),
    ],
)
def test_wrong_keys_of_joined_tables_are_refused(write: Write, text: str, message: str) -> None:
    write(text, name="third")
    check_refused(f"third.yaml: .*{message}", TableSpec.read, write("extends: third.yaml\n"))
    check_refused(message, TableSpec.read, write(f"extends: base.yaml\n{text}\n"))


# ---- the tables that come with the package ----


TABLES = Path(__file__).parents[2] / "yaml" / "bench"


@pytest.mark.parametrize("path", sorted(TABLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_table_can_be_read(path: Path) -> None:
    spec = TableSpec.read(path)
    assert {"SSF", "Pop", "BPR"} & {settings.get("model", label) for label, settings in spec.models.items()}
    assert spec.title != path.stem


def test_tables_run_what_others_run() -> None:
    mine, base = (TableSpec.read(TABLES / f"{name}.yaml") for name in ("cold", "temporal"))
    assert mine.datasets == base.datasets
    assert mine.common == base.common
    assert {label: base.models.get(label, each) for label, each in mine.models.items()} == mine.models
    mine, *bases = (TableSpec.read(TABLES / f"{name}.yaml") for name in ("headline", "trained", "closed-forms"))
    theirs = [row for base in bases for section in base.datasets for row in base.planned_rows(section)]
    for section in mine.datasets:
        for row in mine.planned_rows(section):
            assert row in theirs


def test_a_model_may_be_left_out_of_a_data_set(write: Write, runs: Any) -> None:
    table = write(BASE.replace("{again: {epochs: 9}}", "{again: false}").replace("[1, 2]", "1"))
    assert compare(table).n_new == 5
    assert "BPR on again, seed 1" not in runs.started()
    found = stored_table(table)
    assert found is not None
    assert (list(found.places["again"]), found.not_run) == (["Pop", "EASE"], {})


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_finished_is_shown_without_a_run(write: Write, runs: Any) -> None:
    table = write(BASE.replace("[1, 2]", "1"))
    check_refused("has no finished rows yet", compare, table, finished=True)
    compare(table, only=["Pop"])
    runs.started()
    table.write_text(
        table.read_text(encoding="utf-8")
        .replace("  again:", "  elsewhere:\n  again:")
        .replace("again: {epochs: 9}", "again: {tuned: true, epochs: 9}"),
        encoding="utf-8",
    )
    before = contents(table.parent)
    assert compare(table, finished=True).rows
    assert contents(table.parent) == before, "nothing is written"
    found = compare(table, output=table.parent, finished=True)
    assert (found.n_new, runs.started()) == (0, [])
    assert [line.label for section in found.table.sections for line in section.lines] == ["Pop", "Pop"]
    stored = stored_table(table)
    assert stored is not None
    assert stored.not_run["again"] == ["BPR", "EASE"]
    assert to_markdown(stored.table) == table.with_suffix(".md").read_text(encoding="utf-8")


def test_a_table_shows_rows_without_its_data(write: Write, runs: Any, tmp_path: Path) -> None:
    table = write(BASE.replace("[1, 2]", "1"))
    printed = to_markdown(compare(table).table)
    shutil.rmtree(tmp_path / "atomic_files" / "toy-signed")
    runs.started()
    found = compare(table, finished=True)
    assert (to_markdown(found.table), found.n_new, runs.started()) == (printed, 0, [])


def test_rows_of_older_defaults_are_shown_until_replaced(write: Write, runs: Any) -> None:
    table = write(BASE.replace("[1, 2]", "1"))
    compare(table)
    shown = table.with_suffix(".view.json").read_text(encoding="utf-8")
    table.write_text(table.read_text(encoding="utf-8").replace("reg_weight: 7.0", "reg_weight: 8.0"), encoding="utf-8")
    runs.started()
    assert len(compare(table, finished=True).rows) == 6
    assert runs.started() == []
    assert table.with_suffix(".view.json").read_text(encoding="utf-8") == shown
    compare(table, only=["EASE"])
    compare(table, output=table.parent, finished=True)
    assert table.with_suffix(".view.json").read_text(encoding="utf-8") != shown


def test_seeds_that_a_table_asks_for_no_more_are_not_shown(write: Write, runs: Any) -> None:
    seeds = "seeds: [1, 2]"
    table = write(BASE.replace("toy-signed: {epochs: 3}", "toy-signed: {eval_args: {order: RO}}"))
    assert [row.seed for row in compare(table, only=["EASE"], datasets=["toy-signed"]).rows] == [1, 2]
    compare(table, output=table.parent, finished=True)
    text = table.read_text(encoding="utf-8")
    for now, shown in (("seeds: [2]", [2]), ("seeds: [2, 3]", [2]), (seeds, [1, 2]), ("seeds: [2, 3]", [1, 2])):
        table.write_text(text.replace(seeds, now), encoding="utf-8")
        assert [row.seed for row in compare(table, output=table.parent, finished=True).rows] == shown


# ---- names ----


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("common: {seed: 7}", "common: 'seed' is no key of a table; write 'seeds'"),
        ("datasets: {toy-signed: {seed: 7}}", "toy-signed: 'seed' is no key"),
        ("models: {Pop: {per_dataset: {toy-signed: {seed: 7}}}}", "Pop: 'seed' is no key"),
        ("models: {Pop: {per_dataset: {toy-signed: {model: EASE}}}}", "Pop: 'model' can't be set here"),
        ("models: {Pop: {dataset: again}}", "Pop: 'dataset' can't be set here"),
        ("datasets: {toy-signed: {per_dataset: {}}}", "toy-signed: 'per_dataset' can't be set here"),
    ],
)
def test_keys_that_would_be_ignored_are_refused(write: Write, text: str, message: str) -> None:
    parts = {"datasets": "datasets: [toy-signed]", "models": "models: [Pop]", text.partition(":")[0]: text}
    check_refused(message, TableSpec.read, write("\n".join(parts.values())))


def test_parts_that_are_left_empty_go(write: Write) -> None:
    # ``pool: ~`` takes a data set of another table out of its pool
    path = write("datasets: {toy-signed: {pool: ~, dataset: ~}, b: {pool: ~, dataset: toy-signed}}\nmodels: [Pop]\n")
    spec = TableSpec.read(path)
    assert spec.pools() == {"toy-signed": ["toy-signed"], "b": ["b"]}
    assert [cell.dataset for section in spec.datasets for cell in spec.planned_rows(section)] == ["toy-signed"] * 2
    write("datasets: {p: {pool: P}, toy-signed: }\nmodels: {SSF: {per_dataset: {P: {rank: 4}}}}\n", name="pools")
    spec = TableSpec.read(write("extends: pools.yaml\ndatasets: [toy-signed]\n"))
    assert spec.models["SSF"]["per_dataset"] == {}
    kept = TableSpec.read(write("extends: pools.yaml\ndatasets: {q: {pool: P}}\n"))
    assert next(kept.planned_rows("q")).settings == {"rank": 4}


def test_settings_on_parts_and_in_specifications(write: Write, tmp_path: Path) -> None:
    text = """
datasets:
  a: {pool: toy-signed, dataset: none-such}
  toy-signed: {pool: toy-signed, epochs: 7}
models: [BPR]
"""
    assert table_settings(write(text), "toy-signed") == {"BPR": {"epochs": 7}}
    (tmp_path / "t.yaml").write_text(
        "models: {Pop: {seeds: 3, per_dataset: {a: ~, b: {tuned: {data: c}}}}}\n"
        "datasets: {a: {pool: p}, b: {tuned: {name: d}}}\ncommon: {tuned: false, start: {x: 1}}\n"
    )
    assert TableSpec.read(tmp_path / "t.yaml").pools() == {"p": ["a"], "b": ["b"]}
    (tmp_path / "s.yaml").write_text("title: t\ndataset: d\ncut: 0.5\nwindows: 6h\nmodels: [Pop]\nmax_windows: 3\n")
    assert StreamSpec.read(tmp_path / "s.yaml").windows == "6h"
