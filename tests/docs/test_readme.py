"""The README says what is so: its commands are those that CI runs, its tables are those of the result files."""

from __future__ import annotations

import re
from pathlib import Path

from signed_report.markdown import read_table_lines
from signed_report.readme import block
from signed_report.tables import read_table, table_values

from recbole_signed.data import SETTING_KEYS
from recbole_signed.experiments.runs import metric_column
from recbole_signed.plugin import registry


def test_ci_calls_the_test_command(repository: Path) -> None:
    readme = (repository / "README.md").read_text(encoding="utf-8")
    command = re.search(r"\.venv/bin/(python -m pytest .*)$", readme, re.MULTILINE)
    assert command is not None
    assert command[1] in (repository / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_every_key_is_explained(repository: Path) -> None:
    readme = (repository / "README.md").read_text(encoding="utf-8")
    assert [key for key in SETTING_KEYS if f"`{key}`" not in readme] == []
    assert [name for name in registry.models() if f"`{name}`" not in readme] == []


MARKED = re.compile(r"<!-- table: (.+?) -->\n(.*?)\n<!-- end -->", re.DOTALL)


def test_marked_tables_are_those_of_the_result_files(repository: Path) -> None:
    """``recbole-signed report readme`` mends it."""
    found = dict(MARKED.findall((repository / "README.md").read_text(encoding="utf-8")))
    assert {"yaml/bench/ml-100k notes", "yaml/bench/headline", "yaml/online/kuairand: all"} <= set(found)
    assert [what for what, shown in found.items() if shown != block(what, repository)] == []


def test_what_is_printed_beside_a_table_is_what_its_rows_say(repository: Path) -> None:
    """The Markdown that the README shows and the rows that the report reads are two files of one result."""
    for name in re.findall(r"<!-- table: yaml/bench/([\w-]+)", (repository / "README.md").read_text(encoding="utf-8")):
        results = read_table(repository / "yaml" / "bench" / f"{name}.yaml")
        if results is None:  # the rows of ml-100k are everybody's own
            continue
        printed = (repository / "yaml" / "bench" / f"{name}.md").read_text(encoding="utf-8")
        for section in results.table.sections:
            lines = {cells["Model"]: cells for cells in read_table_lines(printed, section.name)}
            for line in section.lines:
                for column, cell in zip(results.spec.columns, line.cells, strict=False):
                    header = metric_column(column).header
                    shown = {name.removesuffix(" ↓"): each for name, each in lines[line.label].items()}[header]
                    assert re.sub(r"[*‡]|</?u>", "", shown) == cell.text(), (name, section.name, line.label, header)


def test_a_table_of_results_outside_the_marks_agrees_with_them(repository: Path) -> None:
    """SSF's own table has runs of its own, of the same model on the same data: its quality is that of the big table."""
    readme = (repository / "README.md").read_text(encoding="utf-8")
    outside = MARKED.sub("", readme)
    results = read_table(repository / "yaml" / "bench" / "sigformer.yaml")
    assert results is not None
    sections = table_values(results)["sections"]
    number = r" ([\d.]+) \|"
    rows = re.findall(rf"^\| (sigformer-[\w-]+) \|{number * 4}", outside, re.MULTILINE)
    assert len(rows) == len(sections) or not rows
    for name, *shown in rows:
        values = sections[name]["lines"]["SSF"]["values"]
        columns = ("recall@20", "ndcg@20", "dislikerecall@20", "signauc")
        assert shown == [values[column]["text"] for column in columns], name
    others = [line for line in outside.splitlines() if line.startswith("|") and re.search(r"\b0\.\d{4}\b", line)]
    assert [line for line in others if not line.startswith("| sigformer-")] == []
