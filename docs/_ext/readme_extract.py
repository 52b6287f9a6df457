"""The extract of the results that the README shows; ``python docs/_ext/readme_extract.py`` updates it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from recbole_signed.experiments.tables import stored_table  # noqa: E402

TABLE = ROOT / "yaml" / "bench" / "headline.yaml"
SECTIONS = {"sigformer-amazon-music": "Amazon-Music", "sigformer-kuairand": "KuaiRand"}
MODELS = ("SSF-L", "SSF", "SIGformer", "SignedEASE", "SiReN", "SimGCL", "LightGCN", "EASE", "Pop")
HEADERS = ("Recall@20", "NDCG@20", "DislikeRecall@20", "Train (s)")
BLOCK = re.compile(r"(?<=<!-- extract -->\n).*?(?=<!-- end -->)", re.DOTALL)


def extract() -> str:
    """Return a Markdown table of some models, means over their seeds."""
    found = stored_table(TABLE)
    assert found is not None, f"{TABLE} has no rows"
    place = {column.header: number for number, column in enumerate(found.table.columns)}
    sections = {
        section.name: {line.label.split()[0]: line for line in section.lines} for section in found.table.sections
    }
    cells: dict[str, list[str]] = {}
    for section in SECTIONS:
        lines = [sections[section][model] for model in MODELS]
        for line, model in zip(lines, MODELS, strict=True):
            stopped = " †" if line.label.endswith("†") else ""
            chosen = [line.cells[place[header]] for header in HEADERS]
            cells.setdefault(model, []).extend(f"{cell.mean:.{cell.decimals}f}{stopped}" for cell in chosen)
    headers = [f"{title} {header}" for title in SECTIONS.values() for header in HEADERS]
    rows = [["model", *headers], ["---", *("---:" for _ in headers)], *([model, *cells[model]] for model in MODELS)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(BLOCK.sub(extract(), readme.read_text(encoding="utf-8")), encoding="utf-8")
