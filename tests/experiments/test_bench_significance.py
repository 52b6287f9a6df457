"""From a table's rows and values per user to its comparisons, its marks and what is printed of them."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import outcome, printed
from refusals import check_refused
from result_tables import leads_table
from scipy import stats
from scripted import scripted_run

from recbole_signed.convert import convert
from recbole_signed.evaluation.significance import TESTS
from recbole_signed.lab.significance import pairwise_lines, pairwise_table, pairwise_tests, significance
from recbole_signed.lab.significance.pairwise_lines import kept_outcomes
from recbole_signed.runs import RunRow, TableSpec, compare, processes
from recbole_signed.runs.rows import FAILED, append_row, read_rows
from recbole_signed.runs.spec import RunSpec
from recbole_signed.runs.stored import Marks, View, find_marks, view_file
from recbole_signed.runs.user_values import SectionValues, file_name, users_folder, write
from recbole_signed.table import render, to_text

TABLE = """
title: Tiny
datasets: [toy-signed]
common: {metrics: [Recall, DislikeRecall], topk: [5], valid_metric: Recall@5, state: ERROR}
seeds: [1, 2]
columns: [recall@5, dislikerecall@5]
models: {Pop: , SSF: {seeds: [1]}, EASE: {seeds: [1]}}
"""
POOLED = TABLE.replace("[toy-signed]", "{first: {dataset: toy-signed, pool: both}, second: {pool: both}}")
N_USERS = 300
LEVELS = {"Pop": 0.2, "SSF": 0.5, "EASE": 0.5}
"""How many of ten likes each model finds; and as many dislikes, so that there Pop is the best."""

Values = Callable[[str, int], Mapping[str, Any]]
Finish = Callable[..., Path]


def drawn(label: str, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([seed, *label.encode()])
    recall = rng.binomial(10, LEVELS[label], N_USERS) / 10
    dislike = np.where(np.arange(N_USERS) < 200, rng.binomial(10, LEVELS[label], N_USERS) / 10, np.nan)
    return {"recall@5": recall, "dislikerecall@5": dislike}


def row_of(request: RunSpec, values: Mapping[str, Any] | None, rows_file: Path, split: Any = "predefined") -> RunRow:
    test = {key: float(np.nanmean(value)) for key, value in (values or drawn(request.label, request.seed)).items()}
    row = RunRow(request.model, request.dataset, request.seed, test=test, split=split, valid_metric="recall@5")
    row = replace(row, request_hash=request.request_hash, data_sha256=request.data_sha256, label=request.label)
    if values is None:
        return row
    path = users_folder(rows_file) / file_name(request)
    checksum = write(path, [f"u{number}" for number in range(N_USERS)], values)
    return replace(row, per_user=f"{path.parent.name}/{path.name}", per_user_sha256=checksum)


@pytest.fixture
def finish(toy: str, tmp_path: Path) -> Finish:
    """Write a table with rows and values as if it had been run."""

    def finished(values: Values | None = drawn, text: str = TABLE, split: Any = "predefined") -> Path:
        table = tmp_path / "tables" / "tiny.yaml"
        table.parent.mkdir(exist_ok=True)
        table.write_text(text, encoding="utf-8")
        rows_file = table.with_suffix(".jsonl")
        for request in TableSpec.read(table).requests():
            found = None if values is None else values(request.label, request.seed)
            append_row(rows_file, row_of(request, found, rows_file, split))
        return table

    return finished


def rewrite(table: Path, change: Callable[[RunRow], RunRow]) -> None:
    """Write the rows of a table again, each as ``change`` makes it."""
    file = table.with_suffix(".jsonl")
    rows = read_rows(file)
    file.unlink()
    for row in rows:
        append_row(file, change(row))


def without_users(table: Path, *labels: str) -> Path:
    """Remove the values per user of some models; of all for none."""
    folder = users_folder(table.with_suffix(".jsonl"))
    for path in (each for label in labels or ["*"] for each in folder.glob(f"{label}-*")):
        path.unlink()
    return table


def by_pair(found: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(each["metric"], each["other"]): each for each in found["comparisons"]}


# ---- the comparisons ----


def test_a_table_may_be_named_by_text(finish: Finish) -> None:
    table = finish()
    rows = compare(str(table), output=str(table.parent), finished=True).rows
    assert [row.label for row in rows] == [row.label for row in compare(table, finished=True).rows]
    asked: dict[str, Any] = {"metrics": ["recall@5"], "resamples": 50}
    assert significance(str(table), output=str(table.parent), **asked) == significance(table, **asked)


def test_our_model_against_every_other(finish: Finish) -> None:
    found = significance(finish())
    assert found["n_comparisons"] == 4
    assert {each["model"] for each in found["comparisons"]} == {"SSF"}
    pop = by_pair(found)["recall@5", "Pop"]
    mine, theirs = drawn("SSF", 1)["recall@5"], (drawn("Pop", 1)["recall@5"] + drawn("Pop", 2)["recall@5"]) / 2
    assert (pop["mean"], pop["other_mean"]) == (pytest.approx(mine.mean()), pytest.approx(theirs.mean()))
    assert pop["difference"] == pytest.approx((mine - theirs).mean(), abs=1e-7)
    assert pop["relative"] == pytest.approx((mine - theirs).mean() / theirs.mean(), abs=1e-6)
    assert pop["low"] < pop["difference"] < pop["high"]
    assert pop["low"] > 0.25
    exact = np.round(mine - theirs, 6)
    assert 0 in exact
    assert (pop["users_better"], pop["users_worse"]) == (int((exact > 0).sum()), int((exact < 0).sum()))
    assert pop["better"] == ["t", "wilcoxon", "permutation"]
    expected = stats.ttest_rel(mine, theirs, alternative="greater").pvalue
    assert pop["tests"]["t"]["p_better"] == pytest.approx(expected, rel=1e-4)
    assert pop["tests"]["permutation"]["p_better"] == 1 / 10_001
    assert pop["tests"]["permutation"]["p_better_holm"] == pytest.approx(4 / 10_001)


def test_fewer_dislikes_are_better(finish: Finish) -> None:
    found = by_pair(significance(finish()))["dislikerecall@5", "Pop"]
    assert found["n_users"] == 200
    assert found["difference"] > 0.2
    assert found["low"] < found["difference"] < found["high"]
    assert (found["better"], found["worse"]) == ([], ["t", "wilcoxon", "permutation"])
    assert found["users_worse"] > found["users_better"]
    assert found["tests"]["t"]["p_better"] > 0.999


def test_intervals_have_their_level_and_few_resamples_are_said(finish: Finish) -> None:
    # for a mean of so many users, that of the normal distribution
    table, widths = finish(), []
    for alpha in (0.05, 0.5):
        found = by_pair(significance(table, alpha=alpha, resamples=2000))["recall@5", "Pop"]
        widths.append(found["high"] - found["low"])
    assert widths[1] / widths[0] == pytest.approx(0.6745 / 1.96, rel=0.1)
    found = significance(finish(), resamples=50)
    assert "takes 80 resamples or more" in " ".join(found["notes"])
    assert "permutation" not in by_pair(found)["recall@5", "Pop"]["better"]
    assert "resamples" not in " ".join(significance(finish(), resamples=100)["notes"])


def test_a_lead_over_a_mean_below_0_has_no_share_of_it(finish: Finish) -> None:
    def priced(label: str, seed: int) -> dict[str, Any]:
        return {name: each - 2.0 for name, each in drawn(label, seed).items()}

    found = by_pair(significance(finish(priced)))["recall@5", "Pop"]
    assert found["difference"] > 0 > found["other_mean"]
    assert found["relative"] is None


@pytest.mark.parametrize(
    ("given", "models"),
    [
        ({"against": "EASE"}, {"EASE"}),
        ({"only": ["Pop", "EASE"]}, {"EASE"}),
        ({"only": ["Pop", "EASE"], "metrics": ["dislikerecall@5"]}, {"Pop"}),
    ],
)
def test_which_model_the_others_are_compared_with(finish: Finish, given: dict[str, Any], models: set[str]) -> None:
    assert {each["model"] for each in significance(finish(), **given)["comparisons"]} == models


def test_the_best_of_foreign_models_is_that_of_the_mean_over_seeds(finish: Finish) -> None:
    levels = {("Pop", 1): 0.9, ("Pop", 2): 0.1, ("EASE", 1): 0.6, ("BPR", 1): 0.2}

    def values(label: str, seed: int) -> dict[str, np.ndarray]:
        return {"recall@5": np.resize([levels[label, seed], 0.0], N_USERS)}

    text = TABLE.replace("SSF: {seeds: [1]}", "BPR: {seeds: [1]}")
    found = significance(finish(values, text), ["recall@5"], resamples=50)
    assert {each["model"] for each in found["comparisons"]} == {"EASE"}


def test_splits_of_one_data_set_are_tested_together(finish: Finish) -> None:
    """A user counts once, by its mean over the splits that both models have and in which it has test items."""
    convert("toy", None, Path("atomic_files"), name="second")
    there = {"toy-signed": slice(0, 200), "second": slice(100, 300)}
    table = finish(text=POOLED)
    rows_file = table.with_suffix(".jsonl")
    rows_file.unlink()
    for request in TableSpec.read(table).requests():
        found = drawn(request.label, request.seed + 10 * (request.dataset == "second"))
        for column in found.values():
            hidden = np.ones(N_USERS, dtype=bool)
            hidden[there[request.dataset]] = False
            column[hidden] = np.nan
        append_row(rows_file, row_of(request, found, rows_file))
    done = significance(table, metrics=["recall@5"])
    pairs = by_pair(done)
    assert done["n_comparisons"] == 2
    assert {each["section"] for each in done["comparisons"]} == {"both"}
    first, second = drawn("EASE", 1)["recall@5"], drawn("EASE", 11)["recall@5"]
    first[200:], second[:100] = np.nan, np.nan
    pair = pairs["recall@5", "EASE"]
    assert pair["n_users"] == N_USERS
    assert pair["other_mean"] == pytest.approx(np.nanmean(np.stack([first, second]), axis=0).mean(), abs=1e-6)
    assert "mean over the splits 1, 2, taken before the tests" in " ".join(done["notes"])
    one = by_pair(significance(table, metrics=["recall@5"], datasets=["second"]))["recall@5", "EASE"]
    assert (one["section"], one["n_users"]) == ("both", 200)
    assert one["other_mean"] == pytest.approx(np.nanmean(second), abs=1e-6)
    assert significance(table, metrics=["recall@5"], datasets=["both"])["comparisons"] == done["comparisons"]
    shown = compare(table, only=["Pop"], datasets=["second"])
    assert [section.name for section in shown.table.sections] == ["second"]
    assert not table.with_suffix(".md").exists(), "a part of a table is not its text"
    check_refused(r"no data set 'third'; it has both, first, second", significance, table, datasets=["third"])


def test_a_split_without_two_finished_models_has_no_part_in_its_pool(finish: Finish) -> None:
    convert("toy", None, Path("atomic_files"), name="second")
    table = finish(text=POOLED)
    rewrite(table, lambda row: replace(row, stopped_by="budget") if row.dataset == "second" else row)
    told = significance(table)
    assert {each["section"] for each in told["comparisons"]} == {"both"}
    alone = significance(table, datasets=["first"])
    for one, other in zip(told["comparisons"], alone["comparisons"], strict=True):
        assert (one["mean"], one["other_mean"], one["tests"]) == (other["mean"], other["other_mean"], other["tests"])


def test_splits_of_a_pool_that_seeds_have_drawn_are_told_apart_by_them(finish: Finish) -> None:
    convert("toy", None, Path("atomic_files"), name="second")
    pairs = significance(finish(split={"order": "RO"}, text=POOLED), only=["SSF", "Pop"])
    notes = " ".join(pairs["notes"])
    assert "both: each user's value is the mean over the splits 1, 3," in notes
    assert by_pair(pairs)["recall@5", "Pop"]["other_mean"] == pytest.approx(drawn("Pop", 1)["recall@5"].mean())
    apart = significance(
        finish(split={"order": "RO"}, text=POOLED.replace("SSF: {seeds: [1]}", "SSF: {seeds: [7]}")),
        only=["SSF", "Pop"],
    )
    assert apart["n_comparisons"] == 0
    assert "both: SSF and Pop have no split in common" in " ".join(apart["notes"])


def test_another_order_of_the_models_is_another_question(finish: Finish) -> None:
    """The first of this package's own is the one that the others are compared with."""
    table = finish(
        lambda label, seed: drawn("EASE" if label == "SSFL" else label, seed),
        text=TABLE.replace("EASE: {seeds: [1]}", "SSFL: {seeds: [1]}"),
    )
    compare(table)
    assert {each["model"] for each in significance(table)["comparisons"]} == {"SSF"}
    without_users(table)
    swapped = TABLE.replace("SSF: {seeds: [1]}, EASE: {seeds: [1]}", "SSFL: {seeds: [1]}, SSF: {seeds: [1]}")
    table.write_text(swapped, encoding="utf-8")
    compare(table)
    assert kept_outcomes(table) == {}
    check_refused("values per user", significance, table)


def test_seeds_are_said_and_a_random_split_pairs_the_common_ones(finish: Finish) -> None:
    assert "mean over the seeds 1 (SSF, EASE); 1, 2 (Pop)" in " ".join(significance(finish())["notes"])
    table = finish(split={"split": {"RS": [8, 1, 1]}, "order": "RO"}, text=TABLE.replace("EASE: {seeds: [1]}", "EASE:"))
    found = significance(table, only=["SSF", "Pop"])
    assert "seeds" not in " ".join(found["notes"])
    assert by_pair(found)["recall@5", "Pop"]["other_mean"] == pytest.approx(drawn("Pop", 1)["recall@5"].mean())
    found = significance(finish(split={"order": "RO"}, text=TABLE.replace("SSF: {seeds: [1]}", "SSF: {seeds: [7]}")))
    assert found["n_comparisons"] == 0
    assert by_pair(found)["recall@5", "Pop"]["tests"]["t"]["p_better"] is None
    assert "SSF and Pop have no seed in common" in " ".join(found["notes"])
    assert "n/a" in to_text(pairwise_table(found))


@pytest.mark.parametrize(
    "change",
    [
        {"protocol": "published"},
        {"split": {"split": {"RS": [8, 1, 1]}, "order": "TO"}},
        {"settings": {"mask_seen": False}},
        {"settings": {"sign_rule": "rating >= 3"}},
    ],
)
def test_rows_of_other_users_items_or_masks_are_neither_compared_nor_marked(
    finish: Finish, change: dict[str, Any]
) -> None:
    table = finish()
    rewrite(table, lambda row: replace(row, **change) if row.label == "SSF" else row)
    found = significance(table, resamples=50, against="EASE")
    assert by_pair(found)["recall@5", "SSF"]["tests"]["t"]["p_better"] is None
    assert by_pair(found)["recall@5", "Pop"]["tests"]["t"]["p_better"] < 0.05
    assert "EASE and SSF differ in what is held out, hidden or counted" in " ".join(found["notes"])
    (section,) = compare(table).table.sections
    assert "rows differ in what is held out, hidden or counted, so that none is marked" in section.small_print
    assert not any(cell.mark for line in section.lines for cell in line.cells[:2])


@pytest.mark.parametrize(("label", "seed", "other"), [("EASE", 1, "Pop"), ("Pop", 2, "EASE")])
def test_a_failed_run_is_left_out(finish: Finish, label: str, seed: int, other: str) -> None:
    """Also one of two seeds."""
    table = finish()
    without = {"status": FAILED, "reason": "no", "test": {}, "per_user": None, "per_user_sha256": None}
    rewrite(table, lambda row: replace(row, **without) if (row.label, row.seed) == (label, seed) else row)
    found = significance(table, resamples=50)
    assert {each["other"] for each in found["comparisons"]} == {other}
    assert f"{label} on toy-signed (seed {seed})" in found["notes"][0]
    assert "over the 2 comparisons" in compare(table, finished=True).table.notes[-1]


# ---- what is missing ----


def test_missing_values_are_named_with_the_command_that_makes_them(finish: Finish) -> None:
    table = finish()
    without_users(table, "EASE")
    missing = re.escape("of 1 of 4 runs are not there (EASE on toy-signed, seed 1)")
    check_refused(f"{missing}.*'recbole-signed compare {table} --per-user --only EASE'", significance, table)
    assert len(significance(table, only=["SSF", "Pop"])["comparisons"]) == 2
    table.with_suffix(".jsonl").unlink()
    table = finish(values=None)  # rows as an older version wrote them
    check_refused(r"of 4 of 4 runs .*--per-user'", significance, table)


def test_compare_repeats_just_these_runs(finish: Finish, monkeypatch: pytest.MonkeyPatch) -> None:
    table = finish()
    (row,) = (each for each in read_rows(table.with_suffix(".jsonl")) if each.model == "EASE")
    file = table.parent / str(row.per_user)
    file.rename("kept")
    script = f"import shutil; shutil.copy('kept', {str(file)!r})"
    monkeypatch.setattr(processes, "made", partial(scripted_run, script, "started", row.as_dict()))
    assert compare(table).n_new == 0, "the table itself does not need them"
    assert compare(table, per_user=True).n_new == 1
    assert Path("started").read_text().splitlines() == ["EASE on toy-signed, seed 1"]
    assert compare(table, per_user=True).n_new == 0
    assert significance(table)["n_comparisons"] == 4
    table.write_text(TABLE + "per_user: false\n", encoding="utf-8")
    check_refused("per_user: false", compare, table, per_user=True)


def test_values_of_an_equal_run_in_another_table_count(finish: Finish) -> None:
    table = without_users(finish(), "EASE")
    other = table.with_name("other.jsonl")
    for request in TableSpec.read(table).requests():
        append_row(other, row_of(request, drawn(request.label, request.seed), other))
    assert compare(table, per_user=True).n_new == 0, "they are there"
    assert significance(table)["n_comparisons"] == 4


def test_a_table_may_keep_no_values(finish: Finish) -> None:
    table = finish(text=TABLE + "per_user: false\n", values=None)
    assert next(TableSpec.read(table).requests()).per_user is None
    check_refused("take 'per_user: false' out of", significance, table)
    check_refused("'per_user' must be true or false", finish, text=TABLE + "per_user: 3\n", values=None)


def test_a_table_whose_columns_are_no_means_over_users_names_the_metrics_that_are(finish: Finish) -> None:
    text = TABLE.replace("[Recall, DislikeRecall]", "[Recall, DislikeRecall, ItemCoverage]")
    table = finish(text=text.replace("[recall@5, dislikerecall@5]", "[itemcoverage@5]"))
    check_refused(r"no column .*; name one of recall@5, dislikerecall@5 with --metric", significance, table)
    assert len(significance(table, ["recall@5"])["comparisons"]) == 2


def test_a_table_without_a_mean_over_users_is_not_told_to_run_again(toy: str, tmp_path: Path) -> None:
    """Its runs were repeated by each ``compare --per-user``, which ``significance`` asked for again and again."""
    table = tmp_path / "pooled.yaml"
    table.write_text(
        "{datasets: [toy-signed], models: {Pop: , Random: }, seeds: [1], columns: [pooledndcg@5], "
        "common: {metrics: [PooledNDCG], topk: [5], valid_metric: PooledNDCG@5, state: ERROR}}",
        encoding="utf-8",
    )
    compare(table, per_user=True)
    before = read_rows(table.with_suffix(".jsonl"))
    compare(table, per_user=True)
    assert read_rows(table.with_suffix(".jsonl")) == before
    check_refused(r"^Pop on toy-signed, Random .* no values per user", significance, table)


def test_a_model_that_ranks_likes_one_by_one_says_so_and_leaves_the_others_comparable(toy: str, tmp_path: Path) -> None:
    """In a cut in time a sequential model refused the tests of the whole table, and no footnote told it apart."""
    table = tmp_path / "time.yaml"
    table.write_text(
        "{datasets: [toy-signed], models: {Pop: , SSF: {auto: false, rank: 8}, GRU4Rec: {epochs: 1}}, "
        "columns: [recall@5], common: {eval_args: {split: {RS: [0.6, 0.2, 0.2]}, order: TO, group_by: none}, "
        "metrics: [Recall], topk: [5], valid_metric: Recall@5, state: ERROR}}",
        encoding="utf-8",
    )
    done = compare(table, per_user=True)
    pop, _, gru = done.rows
    print_ = done.table.sections[0].small_print
    assert gru.test_cases > gru.test_users
    assert pop.test_cases == pop.test_users >= gru.test_users
    assert f"{pop.test_users} ({pop.test_new_users / pop.test_users:.1%} without a training edge)" in print_
    assert "all that are earlier, of the test too: GRU4Rec" in print_
    found = significance(table, ["recall@5"])
    assert [(each["model"], each["other"]) for each in found["comparisons"]] == [("SSF", "Pop")]
    assert found["notes"][0].endswith("each ranked once: GRU4Rec on toy-signed.")


def test_what_can_not_be_tested_is_named(finish: Finish, tmp_path: Path) -> None:
    # after ``compare --output`` the advice was to make all runs again
    said = r"or name the folder that its rows are in by output\.$"
    check_refused(said, significance, finish(), output=tmp_path / "elsewhere")
    table = finish()
    rewrite(table, lambda row: replace(row, test={**row.test, "gauc": 0.5}))
    check_refused("'gauc', which is not a mean over users", significance, table, ["gauc"])
    table = finish()
    rewrite(table, lambda row: replace(row, status=FAILED, per_user=None, per_user_sha256=None))
    check_refused("there is nothing to compare", significance, table)
    table = without_users(finish())
    table.with_suffix(".significance.json").write_text("[]", encoding="utf-8")
    check_refused(r"tiny.significance.json is damaged; remove it", significance, table)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"metrics": ["recal@5"]}, "'recal@5', which no run of the table evaluated; did you mean 'recall@5'"),
        ({"against": "SFF"}, "'SFF', which the table does not have; did you mean 'SSF'"),
        ({"only": ["SFF"]}, "no model 'SFF'"),
        ({"alpha": 0.0}, "alpha is 0; it must be between"),
        ({"resamples": 0}, "resamples is 0"),
        ({"seed": -1}, "seed is -1; it must be 0 or more"),
        ({"only": ["SSF"]}, "nothing to compare"),
    ],
)
def test_bad_requests(finish: Finish, given: dict[str, Any], message: str) -> None:
    check_refused(message, significance, finish(), **given)


# ---- marks in the table ----


def kept_marks(table: Path) -> Marks | None:
    view = View.read(view_file(table.with_suffix(".jsonl")))
    assert view is not None
    return view.marks


def signs(table: Any, column: int) -> dict[str, bool]:
    return {line.label: line.cells[column].significant for line in table.sections[0].lines}


def test_a_best_number_is_marked_if_it_is_better_than_every_other(finish: Finish) -> None:
    comparison = compare(finish())
    assert signs(comparison.table, 0) == {"Pop": False, "SSF": False, "EASE": False}, "SSF and EASE are too close"
    assert signs(comparison.table, 1) == {"Pop": True, "SSF": False, "EASE": False}
    assert not any(signs(comparison.table, 2).values()), "no test of times"
    assert "Holm-corrected over the 4 comparisons" in comparison.table.notes[-1]
    for how in ("text", "markdown", "latex"):
        assert render(comparison.table, how).count("‡") == 2, "the number and its explanation"


def test_the_best_number_is_not_marked_if_it_is_worse_for_the_users_of_both() -> None:
    """Where the users who count differ between models, so may the means that the table has and those of a test."""
    nan = np.nan
    first, other = np.repeat([[0.5], [0.0]], 100, axis=0), np.repeat([[0.4], [nan]], 100, axis=0)
    other[:100] += np.resize([0.01, -0.01], (100, 1))
    values = SectionValues("data", 200, ("dislikeshare@5",), {"first": {1: first}, "other": {1: other}}, False)
    assert values.means(0) == pytest.approx({"first": 0.25, "other": 0.4})
    assert find_marks([values], ["dislikeshare@5"]).marks == ()
    beaten = {"first": {1: first}, "other": {1: other}, "third": {1: other + 0.2}}
    assert find_marks([replace(values, runs=beaten)], ["dislikeshare@5"]).marks == (), "of two rivals one is ahead"
    better = SectionValues("data", 200, ("dislikeshare@5",), {"first": {1: first}, "other": {1: other + 0.2}}, False)
    assert [each.label for each in find_marks([better], ["dislikeshare@5"]).marks] == ["first"]


def test_a_mark_names_the_rival_that_is_hardest_to_tell_apart() -> None:
    rng = np.random.default_rng(0)
    means = {"far": 0.1, "best": 0.5, "near": 0.45, "middle": 0.3}
    runs = {label: {1: rng.normal(mean, 0.1, (200, 1))} for label, mean in means.items()}
    (mark,) = find_marks([SectionValues("data", 200, ("recall@5",), runs, False)], ["recall@5"]).marks
    assert (mark.label, mark.rival) == ("best", "near")
    assert 0 < mark.p < 0.05


def test_a_model_is_called_worse_where_it_is_behind() -> None:
    """The two-sided p-values are a family of their own: in it a lead may be sure that is not in the other."""
    sides = [(0.005, 0.01), *[(1 - 1e-10, 1e-9)] * 19]
    found: list[dict[str, Any]] = [
        {"tests": {test: {"p_better": one, "p_two_sided": two} for test in TESTS}} for one, two in sides
    ]
    assert pairwise_tests._correct(found, 0.05) == 20
    assert found[0]["tests"]["t"]["p_two_sided_holm"] < 0.05 < found[0]["tests"]["t"]["p_better_holm"]
    assert (found[0]["better"], found[0]["worse"]) == ([], [])
    assert (found[1]["better"], found[1]["worse"]) == ([], list(TESTS))
    equal: dict[str, Any] = {"tests": {test: {"p_better": 0.2, "p_two_sided": 0.4} for test in TESTS}}
    equal["tests"]["t"] = {"p_better": np.nan, "p_two_sided": np.nan}  # all differ by the same amount
    assert pairwise_tests._correct([equal], 0.05) == 1


def test_marks_stay_with_the_rows_where_the_values_are_gone(finish: Finish) -> None:
    table = finish()
    rows_file, markdown = table.with_suffix(".jsonl"), table.with_suffix(".md")
    compare(table)
    printed = markdown.read_text(encoding="utf-8")
    assert "‡" in printed
    compare(without_users(table))
    assert markdown.read_text(encoding="utf-8") == printed
    assert not any(signs(compare(table, only=["Pop", "SSF"]).table, 1).values()), "another family was not tested"
    stored = kept_marks(table)
    assert stored is not None
    assert [(mark.metric, mark.label) for mark in stored.marks] == [("dislikerecall@5", "Pop")]
    assert stored.marks[0].rival in ("SSF", "EASE")
    assert stored.marks[0].p < stored.alpha
    finish(values=lambda label, seed: drawn(label, seed + 10))  # all runs repeated, with other numbers
    assert "‡" not in render(compare(without_users(table)).table, "markdown"), "marks of other values are not believed"
    view_file(rows_file).write_text("{", encoding="utf-8")
    check_refused("is damaged; remove it", compare, table)


def test_a_finished_table_is_printed_without_torch(finish: Finish) -> None:
    table = finish()
    compare(table)
    script = (
        "import contextlib, sys; from recbole_signed.cli.app import main\n"
        "with contextlib.suppress(SystemExit): main(['compare', sys.argv[1]])\n"
        "print([name for name in ('torch', 'recbole', 'pandas', 'scipy') if name in sys.modules], file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(processes.__file__).parents[2])}
    words = [sys.executable, "-c", script, table]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=True)
    assert "‡" in done.stdout
    assert done.stderr.strip() == "[]"


def test_families_of_parts_and_of_other_columns(finish: Finish) -> None:
    table = finish()
    part = compare(table, only=["Pop", "SSF"]).table
    assert signs(part, 0) == {"Pop": False, "SSF": True}
    assert "over the 2 comparisons" in part.notes[-1]
    assert not view_file(table.with_suffix(".jsonl")).exists(), "only the whole table's marks are kept"
    table = finish()
    compare(table)
    table.write_text(TABLE.replace("[recall@5, dislikerecall@5]", "[dislikerecall@5]"), encoding="utf-8")
    found = compare(table).table
    assert signs(found, 0)["Pop"]
    assert "over the 2 comparisons" in found.notes[-1]


def stop(table: Path, *labels: str) -> None:
    """Let the budget have stopped the trainings of some models."""
    rewrite(table, lambda row: replace(row, stopped_by="budget") if row.label in labels else row)


def test_what_a_budget_stopped_takes_part_in_no_claim(finish: Finish) -> None:
    table = finish()
    whole = compare(table)
    assert signs(whole.table, 1)["Pop"]
    assert "over the 4 comparisons" in whole.table.notes[-1]
    stop(table, "EASE")
    view_file(table.with_suffix(".jsonl")).unlink()
    found = compare(table).table
    assert signs(found, 1) == {"Pop": True, "SSF": False, "EASE †": False}
    # of two columns one is left: EASE may be the best one of the other
    assert "over the 2 comparisons" in found.notes[-1] or "over the 1 comparisons" in found.notes[-1]
    told = significance(table, ["dislikerecall@5"], "Pop", resamples=50)
    assert {each["other"] for each in told["comparisons"]} == {"SSF"}
    assert "Left out, because their training budget stopped them (†): EASE on toy-signed." in told["notes"]


def test_where_the_best_one_was_stopped_nothing_is_marked(finish: Finish) -> None:
    table = finish()
    compare(table)
    stop(table, "Pop")
    assert not any(signs(compare(table).table, 1).values()), "marks that were made before hold no longer either"
    view_file(table.with_suffix(".jsonl")).unlink()
    assert not any(signs(compare(table).table, 1).values())
    check_refused("there is nothing to compare", significance, table, ["dislikerecall@5"], "Pop", resamples=50)


def test_comparisons_with_a_best_one_that_was_stopped_are_not_counted() -> None:
    runs = {label: {1: np.full((9, 1), mean) + np.eye(9, 1) / 10} for label, mean in (("A", 0.5), ("B", 0.1), ("C", 0))}
    values = SectionValues("data", 9, ("recall@5",), {**runs, "B": {1: runs["B"][1][::-1]}}, False)
    assert find_marks([values], ["recall@5"]).n_comparisons > 0
    stopped = find_marks([values], ["recall@5"], {"data": ["A"]})
    assert (stopped.marks, stopped.n_comparisons) == ((), 0)


def test_tables_without_values_are_as_before(finish: Finish) -> None:
    table = finish(values=None)
    assert "‡" not in render(compare(table).table, "markdown")
    assert kept_marks(table) is None


# ---- the command ----


def test_the_command(finish: Finish, capsys: pytest.CaptureFixture[str]) -> None:
    table = finish()
    words = ("significance", table, "--resamples", "200")
    found = json.loads(printed(capsys, *words, "--metric", "recall@5", "--json"))
    assert (found["n_comparisons"], found["resamples"]) == (2, 200)
    for how, start in (("text", "Tiny: significance"), ("markdown", "# Tiny: significance"), ("latex", "% needs")):
        out = printed(capsys, *words, "--format", how, "--against", "SSF")
        assert out.startswith(start)
        for piece in ("toy-signed, Recall@5: SSF against", "not told apart", "worse", "better", "4 comparisons"):
            assert piece in out
        assert out.count("Pop") == 3 if how == "text" else "Pop" in out
    assert outcome(capsys, "significance", table, "--format", "html")[0] == 2


def test_the_table_of_comparisons_has_the_corrected_p(finish: Finish) -> None:
    found = significance(finish(), ["recall@5"], "SSF", resamples=50)
    for number, each in enumerate(found["comparisons"]):
        for place, test in enumerate(TESTS):
            each["tests"][test]["p_better_holm"] = (0.125, None, 0.00001)[place - number]
    lines = [[*map(str, line.cells)] for line in pairwise_table(found).sections[0].lines]
    assert [cells[-4:-1] for cells in lines] == [["0.1250", "n/a", "<0.0001"], ["<0.0001", "0.1250", "n/a"]]
    for each, cells in zip(found["comparisons"], lines, strict=True):
        means = [f"{each[name]:.4f}" for name in ("mean", "other_mean")]
        assert cells[1:4] == [*means, f"{each['difference']:+.4f}"]


@pytest.mark.parametrize(
    ("metric", "order"), [("recall@5", ["SSF", "EASE", "Pop"]), ("dislikerecall@5", ["Pop", "EASE", "SSF"])]
)
def test_leads_stand_beside_the_means_with_their_two_sided_p(metric: str, order: list[str]) -> None:
    means = {"SSF": 0.5, "EASE": 0.4, "Pop": 0.1}
    ahead = {
        ("SSF", "EASE"): "+25.0 % (0.0300)",
        ("SSF", "Pop"): "+400.0 % (<0.0001)",
        ("EASE", "SSF"): "-20.0 % (n/a)",
    }
    p_values = {("SSF", "EASE"): 0.03, ("SSF", "Pop"): 1e-5, ("EASE", "SSF"): None, ("EASE", "Pop"): 0.9}

    def outcome(model: str) -> dict[str, Any]:
        comparisons = [
            {
                **{"section": "data", "metric": metric, "model": model, "other": other, "n_users": 9 if other else 0},
                **{"mean": means[model], "other_mean": means.get(other)},
                "relative": means[model] / means[other] - 1 if (model, other) in ahead else None,
                "tests": {"t": {"p_better_holm": 0.5, "p_two_sided_holm": p_values.get((model, other))}},
            }
            for other in (*(other for other in means if other != model), "")
        ]
        return {"n_comparisons": 2, "comparisons": comparisons}

    table = leads_table("T", [outcome("SSF"), outcome("EASE")])
    (section,) = table.sections
    assert [line.label for line in section.lines] == order, "the best by the first metric comes first"
    for line in section.lines:
        leads = [ahead.get((model, line.label), "") for model in ("SSF", "EASE")]
        assert [*map(str, line.cells)] == [f"{means[line.label]:.4f}", *leads]
    assert [each.header.partition(",")[0] for each in table.columns[1:]] == ["SSF ahead", "EASE ahead"]
    assert "over the 2 comparisons" in table.notes[0]


# ---- the outcome that is kept ----


def test_an_outcome_is_read_where_the_values_per_user_are_not_there(finish: Finish) -> None:
    table = finish()
    assert compare(table).n_new == 0
    significance(table, only=["SSF", "Pop"])
    assert not table.with_suffix(".significance.json").exists(), "a question on a part is not kept"
    first, other = significance(table), significance(table, against="EASE")
    without_users(table)
    for found, against in ((first, None), (other, "EASE")):
        again = significance(table, against=against)
        assert again["comparisons"] == found["comparisons"]
        assert again["notes"][:-1] == found["notes"]
        assert again["notes"][-1].startswith("Read from tiny.significance.json")
    assert kept_outcomes(table) == {"SSF": first, "EASE": other}
    for question in ({"only": ["SSF", "Pop"]}, {"metrics": ["recall@5"]}, {"resamples": 9}, {"against": "Pop"}):
        check_refused("values per user", significance, table, **question)


def test_one_more_model_takes_its_values_and_those_of_the_reference_alone(finish: Finish) -> None:
    two = TABLE.replace("EASE: {seeds: [1]}", "ItemKNN: {seeds: [1]}")

    def values(label: str, seed: int) -> Mapping[str, Any]:
        return drawn("EASE" if label == "ItemKNN" else label, seed)

    table = finish(values, text=two)
    significance(table)
    three = TABLE.replace("EASE: {seeds: [1]}", "EASE: {seeds: [1]}, ItemKNN: {seeds: [1]}")
    whole = significance(finish(values, text=three))
    table.with_suffix(".significance.json").unlink()
    significance(finish(values, text=two))
    finish(values, text=three)
    without_users(table, "Pop", "ItemKNN")
    found = significance(table)
    assert found["comparisons"] == whole["comparisons"], "the correction is that of all six"
    assert found["n_comparisons"] == 6
    assert found["notes"][-1] == "Read from tiny.significance.json: the values per user of Pop, ItemKNN are not here."
    without_users(table, "EASE", "SSF")
    assert significance(table)["comparisons"] == whole["comparisons"]
    assert kept_outcomes(table) == {}, "the table's text does not show the third model yet"
    compare(table)
    assert kept_outcomes(table)["SSF"]["comparisons"] == whole["comparisons"]
    check_refused(r"values per user of 5 of 5 runs .*--per-user'", significance, table, ["recall@5"])


def test_a_comparison_outlives_neither_the_values_of_its_models_nor_its_rows(finish: Finish) -> None:
    table = finish()
    significance(table)
    significance(table, against="Pop")
    finish(lambda label, seed: drawn(label, seed + (label == "EASE")))
    without_users(table, "EASE", "Pop")
    check_refused(r"of 1 of 4 runs are not there \(EASE on toy-signed, seed 1\)", significance, table)
    check_refused(r"of 3 of 4 runs are not there", significance, table, against="Pop")
    finish(lambda label, seed: drawn(label, seed + 1))
    significance(table)
    kept = json.loads(table.with_suffix(".significance.json").read_text(encoding="utf-8"))
    assert list(kept) == ["first"], "what fits no row is not kept"
    finish(lambda label, seed: drawn(label, seed + 2))
    compare(table)
    without_users(table)
    assert kept_outcomes(table) == {}
    check_refused("values per user", significance, table)


def test_of_two_outcomes_kept_at_a_time_none_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows_file, read = tmp_path / "table.jsonl", pairwise_lines._read

    def slowly(file: Path) -> dict[str, Any]:
        found = read(file)
        time.sleep(0.3)
        return found

    monkeypatch.setattr(pairwise_lines, "_read", slowly)

    def keep(against: str) -> None:
        pair = {"section": "s", "metric": "m", "model": against, "other": "o", "values": "v"}
        pairwise_lines.keep(rows_file, against, "digest", {"comparisons": [pair]}, {"v"})

    with ThreadPoolExecutor() as threads:
        list(threads.map(keep, ["SSF", "EASE", "Pop"]))
    assert sorted(read(pairwise_lines.kept_file(rows_file))) == ["EASE", "Pop", "SSF"]


def test_a_metric_without_a_value_takes_no_part_in_the_choice_of_the_model(finish: Finish) -> None:
    """Where no model is ours, the others are compared with the best of those that have one."""
    table = finish(
        text=TABLE.replace("SSF: {seeds: [1]}", "BPR: {seeds: [1]}"), values=lambda _, seed: drawn("SSF", seed)
    )
    rewrite(table, lambda row: replace(row, test={**row.test, "recall@5": None}) if row.model == "BPR" else row)
    found = significance(table, ["recall@5"])
    assert {each["model"] for each in found["comparisons"]} <= {"Pop", "EASE"}
    chosen_by_the_outcome = [note for note in found["notes"] if "because it is the best by these numbers" in note]
    assert chosen_by_the_outcome
    assert not {*chosen_by_the_outcome} & {*significance(table, ["recall@5"], "EASE")["notes"]}
