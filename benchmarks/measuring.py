"""What the benchmark scripts share: figures against limits, and a fresh process whose memory is its own."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recbole_signed.memory import memory_bytes

MIB = 2.0**20


@dataclass(frozen=True)
class Figure:
    """One measured number; ``limit`` None: for information."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    at_least: bool = False
    """Whether the value has to be at least the limit, not at most."""

    @property
    def ok(self) -> bool:
        if self.limit is None:
            return True
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        verdict = "    " if self.limit is None else "PASS" if self.ok else "FAIL"
        bound = "" if self.limit is None else f"  ({'at least' if self.at_least else 'at most'} {self.limit:g})"
        return f"{verdict}  {self.name}: {self.value:.4g} {self.unit}{bound}"


def memory(what: str) -> float:
    """Resident memory of this process in bytes: ``VmRSS`` now, ``VmHWM`` at its peak."""
    now, peak = memory_bytes()
    return {"VmRSS": now, "VmHWM": peak}[what]


def in_fresh_process(script: str, *arguments: str, folder: Path) -> dict[str, Any]:
    """Run a script of this folder with arguments, in ``folder``, and return the JSON of its last line."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(Path(script).resolve()), *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{Path(script).name} {' '.join(arguments)} failed with status {done.returncode}.")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def report(figures: list[Figure], as_json: bool) -> int:
    """Print the figures, one a line, and return the exit status: 1 if one is beyond its limit."""
    if as_json:
        print(json.dumps([{**asdict(figure), "ok": figure.ok} for figure in figures], indent=1))
    else:
        for figure in figures:
            print(figure)
    return int(not all(figure.ok for figure in figures))


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that all scripts have."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", action="store_true", help="print one JSON document instead of lines")
    made.add_argument("--folder", type=Path, help="where data is written and kept; else a temporary folder")
    return made
