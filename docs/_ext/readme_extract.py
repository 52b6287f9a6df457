"""The extracts of the results that the README shows; ``python docs/_ext/generated_pages.py`` writes them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from recbole_signed.lab.analysis.tradeoff_tables import splits_table  # noqa: E402
from recbole_signed.runs.stored import stored_table  # noqa: E402

SIGNED = ROOT / "results" / "bench" / "signed"
SECTIONS = {
    "sigformer-amazon-music": "Amazon-Music",
    "sigformer-kuairand": "KuaiRand",
    "sigformer-epinions": "Epinions",
}
MODELS = ("SSF-L", "SSF-L, price 0", "SSF", "SignedSGFCF", "SignediALS", "SIGformer")
HEADERS = ("Recall@20", "NDCG@20", "DislikeRecall@20", "SignAUC")
COST = "Train (CPU s)"
NOT_RUN = "–"
MATCHED = ("SIGformer", "SignedSGFCF")


def headline() -> str:
    """Return a Markdown table of some models on the published splits, means over their seeds; – where there is none."""
    found = stored_table(ROOT / "yaml" / "bench" / "headline.yaml")
    assert found is not None, "the headline has no rows"
    place = {column.header.removesuffix(" ↓"): number for number, column in enumerate(found.table.columns)}
    rows = []
    for section in found.table.sections:
        lines = {line.label.removesuffix(" †"): line for line in section.lines}
        for model in MODELS if section.name in SECTIONS else ():
            if (line := lines.get(model)) is None:
                continue
            stopped = " †" if line.label.endswith("†") else ""
            chosen = [line.cells[place[header]] for header in HEADERS]
            cells = [f"{cell.mean:.{cell.decimals}f}{stopped}" for cell in chosen]
            rows.append([SECTIONS[section.name], model, *cells, _seconds(line.cells[place[COST]].mean)])
    return _markdown(
        ["data", "model", *(f"{each} ↓" if "Dislike" in each else each for each in HEADERS), "CPU s"], rows
    )


def _seconds(mean: float | None) -> str:
    return NOT_RUN if mean is None else f"{mean:.{0 if mean >= 1 else 1}f}"


def dislikes() -> str:
    """Return a Markdown table of how many more or fewer dislikes SSF-L shows at the Recall of some models."""
    found = []
    for name in SECTIONS.values():
        text = (SIGNED / f"resplits-{name}.json").read_text(encoding="utf-8")
        (section,) = splits_table(json.loads(text)).sections
        found.append({line.label: str(line.cells[-1]) for line in section.lines})
    rows = [[model, *(of_set[model] for of_set in found)] for model in MATCHED]
    return _markdown(["at the Recall of", *SECTIONS.values()], rows)


def felt() -> str:
    """Return a Markdown table of what one dislike does to a list of SSF, as the audit finds it."""
    rows = []
    for data, title in {**SECTIONS, "ml-100k-signed": "MovieLens 100K"}.items():
        lines = (SIGNED / f"respond-{data}.jsonl").read_text(encoding="utf-8").splitlines()
        (row,) = (each for each in map(json.loads, lines) if each["model"] == "SSF")
        found = row["summary"]
        shares = (found["prevented"], found["left_likes_50"], found["far_lost"], found["exact"])
        cells = [NOT_RUN if each is None else f"{each:.0%}" for each in shares]
        rows.append([title, f"{row['settings']['dislike_strength']:g}", *cells])
    headers = (
        "similar items that leave the list",
        "left of that after 50 other likes",
        "others that leave",
        "undone to the bit",
    )
    return _markdown(["data", "strength", *headers], rows)


def _markdown(headers: list[str], rows: list[list[str]]) -> str:
    lines = [headers, ["---", *("---:" for _ in headers[1:])], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


EXTRACTS: dict[str, Callable[[], str]] = {
    "felt": felt,
    "headline": headline,
    "dislikes": dislikes,
}
