"""What the command ``convert`` reads and says: options as words, sources as a list, a data set in a few lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from recbole_signed.convert import describe, sources
from recbole_signed.errors import UsageError


def parse_options(words: Iterable[str]) -> dict[str, str]:
    """Parse ``option=value``, ``--option=value`` and ``--option value``; a value may hold ``=`` (``like=rating == 5``).

    Raises:
        UsageError: an option without a value, a word that is none, or an option given twice.
    """
    options: dict[str, str] = {}
    remaining = iter(words)
    for word in remaining:
        name, equals, value = word.partition("=")
        if word.startswith("--") and not equals:
            value = next(remaining, "--")
            equals = "" if value.startswith("--") else "="
        name = name.removeprefix("--").replace("-", "_")
        if not equals or not name.isidentifier():
            raise UsageError(f"expected option=value or --option value, got '{word}'.")
        if name in options:
            raise UsageError(f"the option '{name}' is given twice; give it once.")
        options[name] = value
    return options


def describe_sources() -> list[dict[str, Any]]:
    """Return every source with its options, as JSON can hold it."""
    return [
        {
            "name": name,
            "summary": converter.summary,
            "licence": converter.licence,
            "input_needed": converter.input_needed,
            "options": [asdict(option) for option in describe(converter.options_class)],
        }
        for name, converter in sources().items()
    ]


def to_text(described: Iterable[Mapping[str, Any]]) -> str:
    """Return the sources for a reader."""
    lines: list[str] = []
    for source in described:
        lines.append(f"{source['name']}: {source['summary']}")
        for option in source["options"]:
            default = "" if option["default"] is None else f" (default {option['default']})"
            lines.append(f"    {option['name']}={option['type']}  {option['help']}{default}")
    return "\n".join(lines) + "\n"


def summary(folder: Path) -> dict[str, Any]:
    """Return where a converted data set is, and its ``dataset.json``."""
    return {"path": str(folder), **json.loads((folder / "dataset.json").read_text(encoding="utf-8"))}


def summary_text(described: Mapping[str, Any]) -> str:
    """Return a converted data set for a reader."""
    rows = described["rows"]
    counts = ", ".join(f"{rows[sign]:,} {sign}s" for sign in ("like", "dislike", "neutral"))
    size = f"{described['users']:,} users, {described['items']:,} items"
    lines = [f"{described['path']}: {rows['total']:,} rows ({counts}), {size}"]
    lines += [f"warning: {warning}" for warning in described.get("warnings", ())]
    return "\n".join(lines) + "\n"
