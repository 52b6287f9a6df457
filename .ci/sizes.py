"""Prints the size of the package: lines, modules, exported names, and keys of the SSF family; run it from anywhere."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "recbole_signed"


def lines(files: Iterable[Path]) -> int:
    """Return the number of lines of files."""
    return sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)


def exported() -> int:
    """Return how many names the stubs export."""
    stubs = (file.read_text(encoding="utf-8") for file in PACKAGE.rglob("__init__.pyi"))
    return sum(text.count(" as ") for text in stubs)


def keys(model: str) -> int:
    """Return how many keys the yaml of a model describes to a user."""
    text = (PACKAGE / "properties" / "model" / f"{model}.yaml").read_text(encoding="utf-8")
    return sum(line[:1].isalpha() and " # (" in line for line in text.splitlines())


def main() -> None:
    """Print one figure a line."""
    modules = [*PACKAGE.rglob("*.py")]
    sources = [*modules, *PACKAGE.rglob("*.pyi")]
    rooms = {name: [file for file in sources if PACKAGE / name in file.parents] for name in ("live", "lab", "cli")}
    rooms["core"] = [file for file in sources if not any(file in room for room in rooms.values())]
    figures = {f"lines of {name}": lines(room) for name, room in rooms.items()}
    figures |= {"lines of the package": lines(sources), "lines of tests": lines((ROOT / "tests").rglob("*.py"))}
    figures |= {"modules": len(modules), "exported names": exported()}
    figures |= {f"keys of {model}": keys(model) for model in ("SSF", "SSFL", "SSFT")}
    for name, figure in figures.items():
        print(f"{name:<22} {figure:>7,}")


if __name__ == "__main__":
    main()
