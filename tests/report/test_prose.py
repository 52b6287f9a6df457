"""Numbers that somebody typed into the report's text are found; those of functions and mathematics are not."""

from __future__ import annotations

from pathlib import Path

import pytest
from signed_report.prose import check_folder, stray_numbers


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


def test_the_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "sections").mkdir()
    (tmp_path / "sections" / "a.typ").write_text("#let x = (\n  1,\n)\n\nIt is 5 of 6.\n", encoding="utf-8")
    (tmp_path / "lib.typ").write_text("12", encoding="utf-8")
    assert check_folder(tmp_path) == ["sections/a.typ, line 5: 5", "sections/a.typ, line 5: 6"]


def test_the_report_has_no_number_of_its_own(repository: Path) -> None:
    folder = repository / "docs" / "report"
    assert len(list(folder.rglob("*.typ"))) > 8
    assert check_folder(folder) == []
