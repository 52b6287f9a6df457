"""The report is built from committed results, changes with them, and refuses what they do not hold."""

import copy
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from refusals import check_refused
from signed_report.build import build_report, compile_report, values
from signed_report.cli import report
from signed_report.prose import check_folder, stray_numbers
from signed_report.results import MAIN, Results, read_results

from recbole_signed.cli import app as cli
from recbole_signed.errors import MissingExtraError, UsageError

typst = pytest.importorskip("typst")
pypdf = pytest.importorskip("pypdf")
ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "docs" / "report"


def text_of(pdf: bytes) -> str:
    pages = pypdf.PdfReader(io.BytesIO(pdf)).pages
    return re.sub(r"\s+", " ", " ".join(page.extract_text() for page in pages))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report as the command builds it."""
    output = tmp_path_factory.mktemp("built")
    with pytest.raises(SystemExit) as exit_:
        cli.main(["build", "--root", str(ROOT), "--output", str(output)], commands=report)
    assert exit_.value.code == 0
    return output


@pytest.fixture(scope="module")
def figures(built: Path) -> list[Path]:
    return sorted(path for path in built.glob("*.pdf") if path.name != "report.pdf")


@pytest.fixture
def found(results: Results, figures: list[Path]) -> dict[str, Any]:
    return copy.deepcopy(values(results, figures))


def test_the_committed_report_builds(built: Path, results: Results, figures: list[Path]) -> None:
    pdf = (built / "report.pdf").read_bytes()
    assert 8 <= len(pypdf.PdfReader(io.BytesIO(pdf)).pages) <= 20
    assert {path.stem for path in figures} == {"cost", "datasets", "kuairand", "retention", "tradeoff"}
    text = text_of(pdf)
    lines = results.tables[MAIN]["sections"]["sigformer-kuairand"]["lines"]
    assert f"{lines['SSF']['values']['recall@20']['mean']:.4f}" in text
    assert f"{lines['SiReN']['values']['ndcg@20']['mean']:.4f}" in text
    for word in ("Abstract", "References", "SberZvuk", "SGFCF", "†"):
        assert word in text
    for name in ("standard", "temporal", "cost", "cold", "ssf-ablation"):
        assert (f"yaml/bench/{name}.yaml" in text) == (name not in results.tables)


def test_results_and_claims_that_do_not_hold_stop_the_build(found: dict[str, Any], figures: list[Path]) -> None:
    lines = found["tables"]["headline"]["sections"]["sigformer-kuairand"]["lines"]
    lines["SSF-L"]["values"]["recall@20"]["mean"] = 0.98765
    rival = max(line["values"]["recall@20"]["mean"] for label, line in lines.items() if not label.startswith("SSF"))
    text = text_of(compile_report(SOURCES, found, figures))
    assert "0.9877" in text
    assert text.count(f"to {98.765 / rival - 100:.1f} %)") == 2  # abstract and text
    lines["SSF-L"]["values"]["recall@20"]["mean"] = 0.01
    text = text_of(compile_report(SOURCES, found, figures))
    assert re.search(rf"in Recall@20 on ([^;]* and )?KuaiRand \(0\.0100 against {rival:.4f}\)", text)
    for point in found["tradeoffs"]["sigformer-kuairand"]["points"]:
        point["dislikerecall@20"] = 0.9
    check_refused("no longer bear out", compile_report, SOURCES, found, figures)


def test_what_a_budget_stopped_is_a_rival_only_where_it_is_ahead(found: dict[str, Any], figures: list[Path]) -> None:
    line = found["tables"]["standard"]["sections"]["sigformer-amazon-music"]["lines"]["SIGformer"]
    assert line["budget"]
    text = text_of(compile_report(SOURCES, found, figures))
    ahead = r"in Recall@20 and NDCG@20 on Amazon-Music and KuaiRand \(by 5\.2 to (Table \d+\. .*)?23\.8 %\)"
    assert re.search(ahead, text)  # of SignedEASE; a table may stand in the sentence where a column ends
    assert re.search(r"others \(by [\d.]+ % at least\) on KuaiRand and better than all", text)  # of the abstract
    assert text.count("MovieLens latest-small: informative") == 1  # replays without all arms have no gate
    line["values"]["recall@20"]["mean"] = 0.9
    text = text_of(compile_report(SOURCES, found, figures))
    behind = r"behind SIGformer in Recall@20 on Amazon-Music (Table \d+\. .*)?\(0\.3238 against 0\.9000\)"
    assert re.search(behind, text)  # a table may stand in the sentence where a column ends


def test_a_result_that_is_not_there_is_named(found: dict[str, Any], figures: list[Path]) -> None:
    del found["tables"][found["main"]]["sections"]["sigformer-kuairand"]["lines"]["SSF"]["values"]["ndcg@20"]
    expected = f"there is no result 'tables / {MAIN} / sections / sigformer-kuairand / lines / SSF / values / ndcg@20"
    check_refused(expected, compile_report, SOURCES, found, figures)


def test_sections_appear_with_their_results(found: dict[str, Any], figures: list[Path]) -> None:
    whole = found["tables"][found["main"]]
    served = {"mean": 0.123, "sd": None, "text": "0.123", "mark": "", "decimals": 4}
    for section in whole["sections"].values():
        for line in section["lines"].values():
            line["values"] |= {"serve_seconds": served, "model_bytes": served, "recall@20[users 1-5]": served}
            line["values"]["recall@20"]["sd"] = 0.01
    group = {"recall@20[users 1-5]": {"header": "Recall@20, users 1-5", "smaller": False}}
    for name in ("standard", "temporal", "cost", "cold"):
        found["tables"][name] = copy.deepcopy(whole)
    assert "ssf-ablation" in found["tables"]
    found["tables"]["cold"]["columns"] |= group
    found["tables"]["standard"]["sections"]["sigformer-kuairec"]["not_run"] = ["MultiVAE"]
    tests = {name: {"p_better": 0.01} for name in ("t", "wilcoxon", "permutation")}
    comparison = {"section": "Amazon-Music", "model": "SSF-L", "mean": 0.168, "n_users": 10}
    comparison |= {"difference": 0.018, "low": 0.011, "high": 0.022, "relative": 0.12, "tests": tests}
    comparison |= {"better": ["t", "wilcoxon", "permutation"], "worse": []}
    comparisons = [
        {**comparison, "metric": metric, "other": other, "other_mean": mean}
        for metric in ("recall@20", "ndcg@20")
        for other, mean in (("SGFCF", 0.15), ("SignedSGFCF", 0.16), ("SSF", 0.165))
    ]
    comparisons[1] |= {"better": [], "relative": -0.011}
    outcome = {"n_comparisons": 4, "alpha": 0.05, "comparisons": comparisons}
    found["significance"] = {"resplits": {"SSF-L": outcome}}
    text = text_of(compile_report(SOURCES, found, figures))
    assert "has no committed results yet" not in text
    assert "Not run yet: MultiVAE on KuaiRec" in text
    assert "+12.0" in text
    assert "better than SGFCF and SSF, not told apart from SignedSGFCF (−1.1" in text
    assert "in Recall@20, and better than all 3 others (by 12.0 % at least) in NDCG@20" in text
    assert "123.0" in text  # milliseconds to rank a thousand users
    assert "±0.01" in text


def test_prices_and_audits_are_those_of_the_rows(found: dict[str, Any], figures: list[Path]) -> None:
    for gamma, value in (("0.5", 0.4321), ("1", 0.0), ("2", -0.0123)):
        found["signed"]["sigformer-kuairand"]["SGFCF"][gamma] |= {"value": value, "dislike_aversion": 1.5}
    found["responses"] = {"sigformer-kuairand": {"SSFL": found["responses"]["toy-signed"]["SSF"] | {"prevented": 0.37}}}
    text = text_of(compile_report(SOURCES, found, figures)).replace("- ", "-")  # a line may end behind a hyphen
    assert "0.4321 1.5" in text
    assert "0.0123 1.5" in text
    assert "the first is SGFCF at 0.5, SSF-L at 1" in text
    # SSF-L, too, prevents most; that name may end a column behind its hyphen
    assert "prevents most (37 %) and SSF-L least (37 %) on KuaiRand" in text


def test_a_number_in_the_text_stops_the_build(clone: Path, tmp_path: Path) -> None:
    section = clone / "docs" / "report" / "sections" / "limits.typ"
    section.write_text(section.read_text(encoding="utf-8") + "\nIt gains 12.3 per cent.\n", encoding="utf-8")
    check_refused(r"sections/limits\.typ, line \d+: 12\.3", build_report, clone, tmp_path / "out")
    assert not (tmp_path / "out" / "report.pdf").exists()


def test_sources_that_are_no_typst_are_refused(clone: Path, found: dict[str, Any], figures: list[Path]) -> None:
    (clone / "docs" / "report" / "ssf_l.typ").write_text("#unknown-function()", encoding="utf-8")
    with pytest.raises(UsageError, match="can't be built: unknown variable: unknown-function"):
        compile_report(clone / "docs" / "report", found, figures)


def test_a_missing_extra_is_named(found: dict[str, Any], figures: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "typst", None)
    with pytest.raises(MissingExtraError, match=r"recbole-signed\[report\]"):
        compile_report(SOURCES, found, figures)


def test_a_folder_that_is_no_clone_is_refused(tmp_path: Path) -> None:
    check_refused("give --root", build_report, tmp_path, tmp_path / "out")
    check_refused("give --root", read_results, tmp_path)


def test_a_folder_that_is_no_clone_or_has_damaged_results(clone: Path) -> None:
    (clone / "docs" / "report" / "results" / "published.json").write_text("[1", encoding="utf-8")
    check_refused(r"published\.json", read_results, clone)
    (clone / "results" / "online" / "ml-100k.jsonl").write_text('{"model": "SSF"}\n', encoding="utf-8")
    check_refused(r"ml-100k\.jsonl holds lines that are not rows of a stream: 'spec'", read_results, clone)


def test_stream_results_of_another_yaml_are_marked(clone: Path, figures: list[Path]) -> None:
    path = clone / "yaml" / "online" / "ml-100k.yaml"
    current = {name: each["current"] for name, each in read_results(clone).streams.items()}
    path.write_text(path.read_text(encoding="utf-8").replace("windows: 12", "windows: 11"), encoding="utf-8")
    found = read_results(clone)
    assert [name for name, each in found.streams.items() if each["current"] != current[name]] == ["ml-100k"]
    for name, each in found.streams.items():
        each["current"] = name != "ml-100k"
    text = text_of(compile_report(SOURCES, values(found, figures), figures))
    assert re.search(r"The results of [^.]*MovieLens 100K\b[^.]* were made before the last change", text)


def test_stream_results_of_several_experiments_are_refused(clone: Path) -> None:
    path = clone / "results" / "online" / "ml-100k.jsonl"
    first, *rest = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text(first.replace(json.loads(first)["spec"], "another") + "".join(rest), encoding="utf-8")
    check_refused(r"^\S+ml-100k\.jsonl holds rows of 2 experiments", read_results, clone)


def test_streams_have_their_costs_and_gates(results: Results) -> None:
    stream = results.streams["kuairand"]
    assert stream["gate"] == {"SSF": "informative", "SSF, auto": "informative"}
    assert stream["cost"]["SSF"]["p50"] > 0
    first = json.loads((ROOT / "results" / "online" / "kuairand.jsonl").read_text(encoding="utf-8").splitlines()[0])
    del first["spec"]
    assert stream["subsets"]["all"]["models"]["SSF"]["none"] == first


# ---- numbers that somebody typed into the report's text are found; those of functions and mathematics are not ----


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("SSF reaches 0.3212 here.", ["0.3212"]),
        ("= 12 models\nand 3,500 more", ["12", "3,500"]),
        ('It is #val("t", "s", 5) and #f(x)[of 7 #g(8)[9]].', ["7", "9"]),
        ("#if has(1) [of 2] else [of 3]\nthen 4", ["2", "3", "4"]),
        ('#let a = b.map(x => x * 10)\n#figure(image("p5.pdf", width: 60%), caption: [the 6th]) <tab-7>', ["6"]),
        ("with $e = 1/2$, `code 3`, @he2020, @tab-4 and <fig-5>", []),
        ("// 40 in a comment\n/* 41 \n 42 */ tier T1, not 43", ["43"]),
        (r"Recall\@20 is escaped, its number stays", ["20"]),
        ("#text(size: 8pt)[a] #data.at(3).x [in brackets 11]", ["11"]),
        ("https://example.org/ is not a comment, 5 is a number", ["5"]),
        ("#f(1); 2", ["2"]),
    ],
)
def test_what_is_printed_is_searched(source: str, expected: list[str]) -> None:
    assert [each.number for each in stray_numbers(source)] == expected


def test_a_number_is_named_by_its_line_and_the_report_has_none(tmp_path: Path, repository: Path) -> None:
    (tmp_path / "sections").mkdir()
    (tmp_path / "sections" / "a.typ").write_text("#let x = (\n  1,\n)\n\nIt is 5 of 6.\n", encoding="utf-8")
    (tmp_path / "lib.typ").write_text("12", encoding="utf-8")
    assert check_folder(tmp_path) == ["sections/a.typ, line 5: 5", "sections/a.typ, line 5: 6"]
    folder = repository / "docs" / "report"
    assert len(list(folder.rglob("*.typ"))) > 8
    assert check_folder(folder) == []
