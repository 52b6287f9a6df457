import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_signed.runs import RunRow
from recbole_signed.runs.building import Places, build_table, describe_split, places_of, run_table
from recbole_signed.runs.metric_columns import COSTS, cost_columns, has_k, metric_column, smaller_is_better
from recbole_signed.runs.rows import FAILED
from recbole_signed.table import Cell, latex_escaped, render, to_latex, to_markdown, to_text

SPLIT = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "user", "mode": {"valid": "full", "test": "full"}}


def row(model: str, seed: int, recall: float | None, dislike: float | None = 0.1, seconds: float = 1.0) -> RunRow:
    return RunRow(
        model,
        "toy",
        seed,
        test={"recall@20": recall, "dislikerecall@20": dislike},
        fit_seconds=seconds,
        eval_seconds=0.5,
        peak_memory_bytes=500_000_000,
        data_sha256="0123456789abcdef",
        valid_metric="ndcg@10",
        split=SPLIT,
        protocol="recbole",
        versions={"torch": "2"},
        machine="A, 2 cores",
        threads=1,
    )


def table_of(*rows: RunRow, title: str = "Title", note: str | None = None):  # type: ignore[no-untyped-def]
    return build_table(title, ["recall@20", "dislikerecall@20"], placed(*rows), note)


def placed(*rows: RunRow) -> Places:
    return places_of(("toy", row.label or row.model, row) for row in rows)


def marks(table, column: int) -> dict[str, str]:  # type: ignore[no-untyped-def]
    return {line.label: line.cells[column].mark for line in table.sections[0].lines if line.cells}


def test_means_deviations_and_reasons_of_failures() -> None:
    table = table_of(row("BPR", 1, 0.1), row("BPR", 2, 0.2), row("BPR", 3, 0.3), row("EASE", 1, 0.25))
    bpr, ease = table.sections[0].lines
    assert (bpr.head, ease.head) == (("BPR", "3"), ("EASE", "1"))
    assert bpr.cells[0].mean == pytest.approx(0.2)
    assert bpr.cells[0].sd == pytest.approx(0.1)
    assert ease.cells[0].sd is None
    assert bpr.cells[0].text() == "0.2000 ± 0.1000"
    assert ease.cells[0].text() == "0.2500"
    failed = replace(row("A", 2, None), status=FAILED, reason="out of\nmemory", test={})
    table = table_of(row("A", 1, 0.9), failed, row("B", 1, 0.1))
    line = table.sections[0].lines[0]
    assert (line.failure, line.cells) == ("failed (seed 2): out of memory", ())
    assert marks(table, 0) == {"B": "best"}
    for how in ("text", "markdown", "latex"):
        printed = render(table, how)
        assert "failed (seed 2): out of memory" in printed
        assert "0.9" not in printed


def test_marks_of_the_best() -> None:
    table = table_of(row("A", 1, 0.1, 0.3, 9), row("B", 1, 0.3, 0.2, 1), row("C", 1, 0.2, 0.1, 5))
    assert marks(table, 0) == {"A": "", "B": "best", "C": "second"}
    assert marks(table, 1) == {"A": "", "B": "second", "C": "best"}
    assert marks(table, 2) == {"A": "", "B": "best", "C": "second"}, "less time is better"
    table = table_of(row("A", 1, 0.30001), row("B", 1, 0.30002), row("C", 1, 0.2), row("D", 1, 0.1))
    assert marks(table, 0) == {"A": "best", "B": "best", "C": "second", "D": ""}
    table = table_of(row("A", 1, None), row("A", 2, 0.5), row("B", 1, 0.0))
    assert [line.cells[0].text() for line in table.sections[0].lines] == ["n/a", "0.0000"]
    assert marks(table, 0) == {"A": "", "B": "best"}
    rows = {"one": {"A": [row("A", 1, 0.5)], "B": [row("B", 1, 0.4)]}, "two": {"A": [row("A", 1, 0.1)]}}
    first, second = build_table("T", ["recall@20"], rows).sections
    assert [line.cells[0].mark for line in first.lines] == ["best", "second"]
    assert second.lines[0].cells[0].mark == "best"


def test_splits_and_small_print_in_words() -> None:
    rows = row("A", 1, 0.5), replace(row("A", 2, 0.5), machine="B, 4 cores", signed=True)
    table = table_of(*rows, note="Mind the gap.")
    assert "data sha256 0123456789ab; split RS [0.8, 0.1, 0.1] per user, random order" in table.sections[0].small_print
    assert "protocol recbole; best epoch by validation NDCG@10" in table.sections[0].small_print
    told = "no sign: every row of the data counts as a like"
    assert told not in table.sections[0].small_print
    assert told in table_of(*rows, replace(rows[1], signed=False)).sections[0].small_print
    told += " (B)"
    assert told in table_of(*rows, replace(row("B", 1, 0.5), signed=False)).sections[0].small_print
    hidden = {"mask_seen": False, "duplicate_pairs": "first"}
    assert (
        "; mask_seen False; duplicate_pairs first; best"
        in table_of(*(replace(each, settings=hidden) for each in rows)).sections[0].small_print
    )
    of_a_run = run_table(replace(rows[0], settings={**hidden, "eval_users": 50})).notes[0]
    assert of_a_run.endswith("; protocol recbole; evaluated users 50; mask_seen False; duplicate_pairs first")
    assert table.notes[0] == "Mind the gap."
    assert "Machine: A, 2 cores, 1 thread per run | B, 4 cores, 1 thread per run." in table.notes
    assert any("seeds 1, 2" in note for note in table.notes)
    assert describe_split("predefined") == "predefined"
    assert describe_split({"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": None}) == (
        "LS valid_and_test per user, time order"
    )
    assert describe_split({**SPLIT, "group_by": None}).startswith("RS [0.8, 0.1, 0.1] over all users, ")
    assert describe_split(None) == ""
    sampled = {**SPLIT, "mode": {"valid": "uni100", "test": "uni100"}}
    assert describe_split(sampled).endswith("random order, mode uni100")
    assert describe_split({**SPLIT, "mode": {"valid": "pop9", "test": "full"}}).endswith("order, mode pop9 in valid")


def test_text_markdown_and_latex_have_marks() -> None:
    table = table_of(row("A", 1, 0.5), row("B", 1, 0.4), row("C", 1, 0.3))
    plain = to_text(table)
    assert "*0.5000" in plain
    assert "_0.4000" in plain
    assert "\x1b[" not in plain
    assert re.search(r"\x1b\[1m *0\.5000", to_text(table, width=200, color=True))
    text = to_markdown(table_of(row("A|B_c", 1, 0.5), row("B", 1, 0.4), title="T"))
    lines = [line for line in text.splitlines() if line.startswith("|")]
    unescaped = [re.sub(r"\\\|", "", line).count("|") for line in lines]
    assert set(unescaped) == {8}, "every line has the same number of cells"
    assert "**0.5000**" in text
    assert "<u>0.4000</u>" in text
    assert r"A\|B\_c" in text
    assert "DislikeRecall@20 ↓" in text
    text = to_latex(table_of(row("A & B_c", 1, 0.5), row("A & B_c", 2, 0.5), row("B", 1, 0.4), title="100% # of $"))
    assert r"\textbf{0.5000 $\pm$ 0.0000}" in text
    assert r"\underline{0.4000}" in text
    assert r"A \& B\_c & 2 &" in text
    assert r"\caption{100\% \# of \$}" in text
    assert r"\toprule" in text
    assert r"\bottomrule" in text
    assert r"DislikeRecall@20 $\downarrow$" in text


@given(st.text(alphabet="\\{}&%$#_~^<>|±↓ ab", max_size=30))
def test_nothing_in_escaped_latex_acts(text: str) -> None:
    escaped = latex_escaped(text)
    bare = re.sub(r"\\(?:text\w+|dots)\{\}|\$\\(?:pm|downarrow|geq|leq)\$|\\[{}&%$#_]", "", escaped)
    assert not set(bare) & set("\\{}&%$#_~^")


def test_headers() -> None:
    headers = {
        name: metric_column(name).header
        for name in ("recall@20", "NDCG@5", "dislikendcg@5", "deltarecall@1", "signauc", "giniindex@10")
    }
    assert list(headers.values()) == [
        "Recall@20", "NDCG@5", "DislikeNDCG@5", "DeltaRecall@1", "SignAUC", "GiniIndex@10",
    ]  # fmt: skip


def test_directions_and_lengths_of_metrics() -> None:
    from recbole.evaluator.register import metrics_dict

    from recbole_signed.evaluation.valid_metric import has_length

    smaller = {name: bool(metric.smaller) for name, metric in metrics_dict.items()}
    for spelled in ("{}", "{}@20", "{}@20[users 1-5]"):
        assert {name: smaller_is_better(spelled.format(name).upper()) for name in metrics_dict} == smaller
    plain = [name for name in metrics_dict if not name.startswith("group")]
    assert {name: has_k(name) for name in plain} == {name: has_length(name) for name in plain}
    assert has_k("of another package") is None


def test_one_run_as_text_and_cells_without_numbers() -> None:
    text = to_text(run_table(replace(row("A", 3, None, 0.25), valid={"recall@20": 0.125}, epochs=1)))
    assert "A on toy, seed 3" in text
    assert re.search(r"Recall@20 +0\.1250 +n/a", text)
    assert re.search(r"DislikeRecall@20 ↓ +n/a +0\.2500", text)
    assert text.endswith("training 1.0 s (1 epoch), test 0.50 s, peak memory 500 MB\n")
    served = {"serve_seconds": 0.0125, "serve_memory_bytes": 20_000_000, "model_bytes": 1_500_000}
    text = to_text(run_table(replace(row("A", 3, 0.5), **served)))
    assert text.endswith("\nranking 1,000 users 12.5 ms, memory for it 20.00 MB, model 1.50 MB\n")
    assert Cell(None, None, 4).text() == "n/a"


def test_a_training_that_its_budget_stopped_is_marked_with_its_last_epoch() -> None:
    table = table_of(replace(row("Slow", 1, 0.1), stopped_by="budget", epochs=7), row("Quick", 1, 0.2))
    section = table.sections[0]
    assert [line.label for line in section.lines] == ["Slow †", "Quick"]
    assert section.small_print.endswith(
        "† stopped by its training budget before early stopping: a lower bound, in no ranking and no test, "
        "after epoch: Slow 7"
    )
    assert "† stopped" not in table_of(row("Quick", 1, 0.2)).sections[0].small_print
    for how in ("text", "markdown", "latex"):
        assert "†" in render(table, how)
    ahead = table_of(replace(row("Slow", 1, 0.9), stopped_by="budget", epochs=7), row("Quick", 1, 0.2))
    assert marks(ahead, 0) == {"Slow †": "", "Quick": "best"}, "an unfinished training claims nothing"
    one = replace(row("Slow", 2, 0.9), stopped_by="budget", epochs=7)
    seeds = table_of(replace(row("Slow", 1, 0.9), stopped_by="early stopping", epochs=5), one, row("Quick", 1, 0.2))
    assert marks(seeds, 0) == {"Slow †": "", "Quick": "best"}, "nor does a mean of which it is a part"
    assert seeds.sections[0].small_print.endswith("after epoch: Slow 5, 7")


def test_relative_costs_are_multiples_of_the_best_and_of_a_line() -> None:
    rows = [row("A", 1, 0.1, seconds=8), row("A", 2, 0.1, seconds=12), row("B", 1, 0.2, seconds=2.5)]
    rows.append(replace(row("C", 1, 0.3, seconds=5), stopped_by="budget", epochs=3))
    columns = cost_columns(["train", "train_memory"], ["best", "C"])
    assert [column.header for column in columns[:3]] == ["Train (s)", "Train / best", "Train / C"]
    table = build_table("T", ["recall@20"], placed(*rows), costs=columns)
    lines = {line.label: [cell.text() for cell in line.cells] for line in table.sections[0].lines}
    assert lines == {
        "A": ["0.1000 ± 0.0000", "10.00 ± 2.83", "4.00", "2.00", "n/a", "n/a", "n/a"],
        "B": ["0.2000", "2.50", "1.00", "0.50", "n/a", "n/a", "n/a"],
        "C †": ["0.3000", "5.00", "2.00", "1.00", "n/a", "n/a", "n/a"],
    }
    assert marks(table, 1) == {"A": "", "B": "best", "C †": "second"}
    assert set(marks(table, 2).values()) == {""}, "the same order twice needs no marks"


def test_untrained_choices_and_costs_of_lines_are_told() -> None:
    failed = replace(row("C", 1, None), status=FAILED, reason="no", test={})
    table = build_table("T", [], placed(row("A", 1, 0.1), failed), costs=cost_columns(["train"], ["best", "C", "D"]))
    assert [cell.text() for cell in table.sections[0].lines[0].cells] == ["1.00", "1.00", "n/a", "n/a"]
    full = RunRow(
        "A", "toy", 1, fit_seconds=1, fit_cpu_seconds=1.5, eval_seconds=2, peak_memory_bytes=3_000_000,
        fit_memory_bytes=4_000_000, peak_gpu_memory_bytes=5_000_000, serve_seconds=0.006, serve_first_seconds=0.007,
        serve_memory_bytes=8_000_000, serve_gpu_memory_bytes=9_000_000, model_bytes=10_000_000,
    )  # fmt: skip
    assert [column.value(full) for column in COSTS.values()] == pytest.approx([1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    assert [column.value(RunRow("A", "toy", 1)) for column in COSTS.values()] == [None] * len(COSTS)


def test_budgets_and_trainings_without_an_epoch_are_told() -> None:
    def trained(model: str, budget: float | None, epochs: int | None = 9) -> RunRow:
        return replace(row(model, 1, 0.1), epochs=epochs, settings={"training_budget": budget} if budget else {})

    table = table_of(trained("A", 60), trained("B", 3600), trained("C", 60), trained("Fitted at once", 60, epochs=1))
    assert "; training budget 60 s (B 3600 s)" in table.sections[0].small_print
    steps = replace(trained("A", 60), steps=10, settings={"training_budget": 60, "max_steps": 500})
    table = table_of(replace(trained("B", 60), steps=9), steps)
    assert "; training budget 60 CPU s (A 60 CPU s and 500 steps)" in table.sections[0].small_print
    table = table_of(trained("A", None))
    assert "training budget none (early stopping or the last epoch ends it)" in table.sections[0].small_print
    assert "budget" not in table_of(trained("Fitted at once", 60, epochs=1)).sections[0].small_print
    trained = replace(row("Trained", 1, 0.1), epochs=9, valid={})
    chosen = replace(row("Chosen", 1, 0.1), epochs=9, valid={"ndcg@10": 0.1})
    said = "best epoch by validation NDCG@10; of the last epoch, as that metric is not defined on validation: Trained"
    assert said in small_print(trained, chosen, row("At once", 1, 0.1))
    assert "of the last epoch" not in small_print(chosen, row("At once", 1, 0.1))


def test_a_model_that_only_ranks_by_popularity_is_named() -> None:
    def trained(model: str, value: float, steps: int | None = 100) -> RunRow:
        return replace(row(model, 1, 0.1), valid={"recall@20": value}, valid_metric="recall@20", steps=steps)

    flat, late = trained("Flat", 0.204), trained("Late", 0.22)
    popular, fitted, old = trained("Pop", 0.2, 0), trained("Fitted", 0.1, 0), trained("Old", 0.1, None)
    assert "no more than 5% above popularity on validation: Flat" in small_print(flat, late, popular, fitted, old)
    assert "popularity" not in small_print(late, popular, fitted, old)
    assert "popularity" not in small_print(flat, late), "there is no Pop in the table"
    elsewhere = replace(trained("Elsewhere", 0.1), valid={"ndcg@20": 0.1}, valid_metric="ndcg@20")
    assert "popularity" not in small_print(elsewhere, popular), "it has no value to compare"
    failed = [replace(trained("Failed", 0.1), seed=seed, status=FAILED, valid={}, steps=None) for seed in (2, 3)]
    assert "popularity" not in small_print(trained("Failed", 0.1), *failed, popular)
    below, popular = trained("Below", -0.2), trained("Pop", -0.2, 0)
    assert "above popularity on validation: Below" in small_print(below, popular), "with a price on dislikes"


def small_print(*rows: RunRow) -> str:
    return table_of(*rows).sections[0].small_print


def test_results_in_groups_have_columns_and_the_groups_sizes_are_told() -> None:
    test = {
        "recall@20[users 1-5]": 0.25, "recall@20[items 51+]": None, "groupshare[users 1-5]": 0.125,
        "groupshare[users 6+]": 0.875, "groupshare[items 51+]": 0.5,
    }  # fmt: skip
    columns = ["recall@20[users 1-5]", "recall@20[items 51+]"]
    plain = row("Plain", 1, 0.5)  # a model need not evaluate them
    table = build_table("T", columns, placed(plain, replace(row("A", 1, None), test=test)), costs=())
    assert [column.header for column in table.columns] == ["Recall@20, users 1-5", "Recall@20, items 51+"]
    assert [cell.text() for cell in table.sections[0].lines[1].cells] == ["0.2500", "n/a"]
    assert table.sections[0].small_print.endswith(
        "evaluated users by training edges 1-5: 12.5%, 6+: 87.5%; "
        "their held-out likes by training edges of the item 51+: 50.0%"
    )
