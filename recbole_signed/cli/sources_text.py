"""What the command ``convert`` reads and says: options as words, sources as a list, a data set in a few lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from recbole_signed.convert.base import all_sources, source
from recbole_signed.convert.options import Common, describe
from recbole_signed.errors import UsageError, counted

_OWN = {
    "source": "the source as the first word",
    "input": "--input PATH",
    "output": "--output FOLDER",
    "name": "--name NAME",
    "overwrite": "--overwrite",
}
"""What is no option of a source, and how the command takes it."""


def parse_options(words: Iterable[str]) -> dict[str, str]:
    """Parse ``option=value``, ``--option=value`` and ``--option value``; a value may hold ``=``."""
    options: dict[str, str] = {}
    remaining = iter(words)
    for word in remaining:
        name, equals, value = word.partition("=")
        if word.startswith("--") and not equals:
            value = next(remaining, "--")
            equals = "" if value.startswith("--") else "="
        name = name.removeprefix("--").replace("-", "_")
        if not equals or not name.isidentifier():
            hint = f"; the file is given as --input {word}." if Path(word).exists() or Path(word).suffix else "."
            raise UsageError(f"expected option=value or --option value, got '{word}'{hint}")
        if name in _OWN:
            raise UsageError(f"convert takes no {name}=; give {_OWN[name]}.")
        if name in options:
            raise UsageError(f"the option '{name}' is given twice; give it once.")
        options[name] = value
    return options


def describe_common() -> list[dict[str, Any]]:
    """Return the options that every source has, as JSON can hold them."""
    return [asdict(option) for option in describe(Common)]


def describe_sources(only: str | None = None) -> list[dict[str, Any]]:
    """Return every source with its options, or one, as JSON can hold it."""
    common = describe_common()
    sources = all_sources() if only is None else {only: source(only)}
    return [
        {
            "name": name,
            "summary": converter.summary,
            "licence": converter.licence,
            "input_needed": converter.input_needed,
            "options": [asdict(option) for option in describe(converter.options_class)],
            "common_options": common,
        }
        for name, converter in sources.items()
    ]


def to_text(described: Iterable[Mapping[str, Any]]) -> str:
    """Return the sources for a reader."""
    lines: list[str] = []
    for each in described:
        lines.append(f"{each['name']}: {each['summary']}")
        lines += map(_option_text, each["options"])
    lines.append("every source:")
    lines += map(_option_text, describe_common())
    return "\n".join(lines) + "\n"


def _option_text(option: Mapping[str, Any]) -> str:
    default = "" if option["default"] is None else f" (default {option['default']})"
    return f"    {option['name']}={option['type']}  {option['help']}{default}"


def _rows_text(rows: Mapping[str, int]) -> str:
    signs = ", ".join(counted(rows[sign], sign) for sign in ("like", "dislike", "neutral"))
    return f"{counted(rows['total'], 'row')} ({signs})"


def summary(folder: Path) -> dict[str, Any]:
    """Return where a converted data set is, and its ``dataset.json``."""
    return {"path": str(folder), **json.loads((folder / "dataset.json").read_text(encoding="utf-8"))}


def summary_text(described: Mapping[str, Any]) -> str:
    """Return a converted data set for a reader."""
    rows = described["rows"]
    size = f"{counted(described['users'], 'user')}, {counted(described['items'], 'item')}"
    lines = [f"{described['path']}: {_rows_text(rows)}, {size}, version {described['version']}"]
    time = described["time"]
    if time is None:
        lines.append("no times" + (" (time= names their column)" if described["source"] == "csv" else ""))
    elif time.get("first"):
        lines.append(f"times from {time['first']} to {time['last']}")
    for step in (described.get("cleaning") or {}).get("steps", ()):
        lines.append(f"{step['step']} dropped {_rows_text(step['dropped'])}")
    if described.get("repeated_rows"):
        repeated = counted(described["repeated_rows"], "row repeats", "rows repeat")
        lines.append(f"{repeated} a pair of user and item; dedup=last keeps the last of each pair")
    rejected = described.get("rejected") or {"rows": 0}
    if rejected["rows"]:
        files = ", ".join(f"{count:,} of {file}" for file, count in rejected["files"].items())
        lines.append(f"rejected: {files}; see {described['name']}.rejected.tsv there")
    lines += [f"warning: {warning}" for warning in described.get("warnings", ())]
    return "\n".join(lines) + "\n"
