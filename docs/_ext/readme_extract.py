"""Small tables for the README and the page of results; ``python docs/_ext/generated_pages.py`` writes them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from recbole_signed.lab.analysis.tradeoff_tables import splits_table  # noqa: E402
from recbole_signed.lab.significance.pairwise_lines import kept_outcomes, p_text  # noqa: E402
from recbole_signed.plugin.facts import display_name  # noqa: E402
from recbole_signed.runs.stored import stored_table  # noqa: E402
from recbole_signed.table import Section, Table  # noqa: E402

CURVES = ROOT / "results" / "bench" / "signed"
SECTIONS = {
    "sigformer-amazon-music": "Amazon-Music",
    "sigformer-kuairand": "KuaiRand",
    "sigformer-epinions": "Epinions",
}
FEW_MODELS = ("SSF-L", "SignediALS", "SIGformer", "LightGCN")
MODELS = ("SSF-L", "SSF-L, price 0", "SSF", "SignediALS", "SignedSGFCF", "SIGformer", "LightGCN", "Pop")
HEADERS = ("Recall@20", "NDCG@20", "DislikeRecall@20", "SignAUC")
COST = "Train (CPU s)"
NOT_RUN = "–"
MATCHED = ("SIGformer", "SignedSGFCF")
LED = ("SignediALS", "SignedSGFCF", "SSF", "SIGformer", "SGFCF", "Pop")
SIGNED = (("GFCF", "SignedGFCF"), ("TurboCF", "SignedTurboCF"), ("SGFCF", "SignedSGFCF"))
ORDERED = ("SSF-T", "SSF", "SLIST", "PCTM", "SASRec", "SignedSASRec", "DecayPop")
NAMES = SECTIONS | {
    "ml-100k-signed": "MovieLens 100K",
    "ml-latest-small": "latest-small",
    "movietweetings": "MovieTweetings",
    "kuairand-stream": "KuaiRand",
    "beauty-strict": "Beauty",
    "toys-strict": "Toys",
}


def headline() -> str:
    """Return a Markdown table of four models on the published splits, means over their seeds."""
    return _published(FEW_MODELS)


def published() -> str:
    """Return the same of more models."""
    return _published(MODELS)


def _published(models: Sequence[str]) -> str:
    table, place = _table("headline")
    rows = []
    for section, lines in _sections(table):
        for model in models:
            chosen = [lines[model][place[header]] for header in HEADERS]
            cells = [f"{cell.mean:.{cell.decimals}f}" for cell in chosen]
            rows.append([NAMES[section.name], model, *cells, _seconds(lines[model][place[COST]].mean)])
    headers = [f"{header} ↓" if "Dislike" in header else header for header in HEADERS]
    return _markdown(["data", "model", *headers, "CPU s"], rows)


def resplits() -> str:
    """Return a Markdown table of how far SSF-L is ahead of some models on the re-splits, with p in brackets.

    A model that is there with an aversion, too, stands with the one that SSF-L is less ahead of.
    """
    outcome = kept_outcomes(ROOT / "yaml" / "bench" / "resplits.yaml")["SSF-L"]
    ahead: dict[tuple[str, str, str], tuple[float, str]] = {}
    for row in outcome["comparisons"]:
        if row["n_users"]:
            key = (row["other"].removesuffix(" with aversion"), row["section"], row["metric"])
            text = f"{100 * row['relative']:+.1f} % ({p_text(row['tests']['t']['p_two_sided_holm'])})"
            ahead[key] = min(ahead.get(key, (float("inf"), "")), (row["relative"], text))
    places = [(data, metric) for data in SECTIONS.values() for metric in ("recall@20", "ndcg@20")]
    rows = [[model, *(ahead[model, data, metric][1] for data, metric in places)] for model in LED]
    headers = [f"{data}, {'Recall' if metric == 'recall@20' else 'NDCG'}" for data, metric in places]
    return _markdown(["SSF-L ahead of", *headers], rows)


def signs() -> str:
    """Return a Markdown table of published filters on likes alone and on likes with weighted dislikes."""
    table, place = _table("closed-forms")

    def pair(line: Sequence[Any]) -> str:
        return " / ".join(f"{line[place[header]].mean:.4f}" for header in ("Recall@20", "NDCG@20"))

    rows = []
    for section, lines in _sections(table):
        for plain, signed in SIGNED:
            gain = lines[signed][place["Recall@20"]].mean / lines[plain][place["Recall@20"]].mean - 1
            rows.append([NAMES[section.name], plain, pair(lines[plain]), pair(lines[signed]), f"{gain:+.0%}"])
    return _markdown(["data", "filter", "likes", "likes and weighted dislikes", "Recall gained"], rows)


def order() -> str:
    """Return a Markdown table of the next like of each user, NDCG@20, and of leave one out, NDCG@10."""
    columns: dict[str, dict[str, str]] = {}
    for name, header in (("next-like", "NDCG@20"), ("leave-one-out", "NDCG@10")):
        table, place = _table(name)
        for section, lines in _sections(table):
            columns[NAMES[section.name]] = {label: f"{line[place[header]].mean:.4f}" for label, line in lines.items()}
    rows = [[model, *(of.get(model, NOT_RUN) for of in columns.values())] for model in ORDERED]
    return _markdown(["model", *columns], rows)


def _table(name: str) -> tuple[Table, dict[str, int]]:
    """Return a table and the place of each column, without the arrow of its header."""
    stored = stored_table(ROOT / "yaml" / "bench" / f"{name}.yaml")
    assert stored is not None, f"{name} has no rows"
    return stored.table, {column.header.removesuffix(" ↓"): n for n, column in enumerate(stored.table.columns)}


def _sections(table: Table) -> Iterator[tuple[Section, dict[str, Sequence[Any]]]]:
    """Yield the sections that have a name here, each with its cells by label."""
    for section in table.sections:
        if section.name in NAMES:
            yield section, {line.label.removesuffix(" †"): line.cells for line in section.lines}


def _seconds(mean: float | None) -> str:
    return NOT_RUN if mean is None else f"{mean:.{0 if mean >= 1 else 1}f}"


def dislikes() -> str:
    """Return a Markdown table of how many more or fewer dislikes SSF-L shows at the Recall of some models."""
    columns = []
    for name in SECTIONS.values():
        text = (CURVES / f"resplits-{name}.json").read_text(encoding="utf-8")
        (section,) = splits_table(json.loads(text)).sections
        columns.append({line.label: str(line.cells[-1]) for line in section.lines})
    rows = [[model, *(of_set[model] for of_set in columns)] for model in MATCHED]
    return _markdown(["at the Recall of", *SECTIONS.values()], rows)


def felt() -> str:
    """Return a Markdown table of what one dislike does to a list of SSF, as the audit finds it."""
    columns = {
        "similar items that leave the list": "prevented",
        "left of that after 50 other likes": "left_likes_50",
        "others that leave": "far_lost",
        "undone to the bit": "exact",
    }
    rows = [
        [title, f"{audit['settings']['dislike_strength']:g}", *_shares(audit, columns.values())]
        for title, audit in _audits()
        if audit["model"] == "SSF"
    ]
    return _markdown(["data", "strength", *columns], rows)


def audits() -> str:
    """Return a Markdown table of what dislikes do to the lists of all audited models."""
    columns = {
        "prevented by 1": "prevented",
        "by 3": "prevented_3",
        "similar fall": "falling",
        "left after 50 likes": "left_likes_50",
        "after a like of the kind ↓": "left_liked_again",
        "others lost ↓": "far_lost",
    }
    rows = []
    for title, audit in _audits():
        start = [title, display_name(audit["model"]), f"{audit['settings']['dislike_strength']:g}"]
        rows.append([*start, f"{audit['test']['ndcg@20']:.4f}", *_shares(audit, columns.values())])
    return _markdown(["data", "model", "strength", "NDCG@20", *columns], rows)


def _audits() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the title of each audited data set and what was found of each model."""
    for data, title in {**SECTIONS, "ml-100k-signed": "MovieLens 100K"}.items():
        for line in (CURVES / f"respond-{data}.jsonl").read_text(encoding="utf-8").splitlines():
            yield title, json.loads(line)


def _shares(audit: dict[str, Any], names: Iterable[str]) -> list[str]:
    shares = [audit["summary"][name] for name in names]
    return [NOT_RUN if share is None else f"{share:.0%}" for share in shares]


def _markdown(headers: list[str], rows: list[list[str]]) -> str:
    lines = [headers, ["---", *("---:" for _ in headers[1:])], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


EXTRACTS: dict[str, Callable[[], str]] = {
    "felt": felt,
    "headline": headline,
    "published": published,
    "resplits": resplits,
    "signs": signs,
    "order": order,
    "dislikes": dislikes,
}
