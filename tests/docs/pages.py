"""The code blocks of a Markdown page, and how each kind is run.

Blocks run in the order of the page, in one folder. Blocks of Python that follow each other are one script; a block
of commands ends it. A block whose first line is ``# NAME.py`` or ``# NAME.yaml`` is a file of that name, which is run
if it is Python. ``<!-- not run: REASON -->`` above a block says that its commands are only parsed.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer.main
import yaml
from warm_python import WarmPython

from recbole_signed.cli.app import app

BLOCK = re.compile(
    r"(?P<skip>^<!-- not run: [^\n]+ -->\n)?^```(?P<language>\S*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)
NAMED = re.compile(r"# (?P<name>\S+\.(?:py|yaml))\n")
PROGRAM = "recbole-signed"


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    language: str
    body: str
    skipped: bool

    @property
    def file(self) -> str | None:
        """The name of the file that the block is."""
        found = NAMED.match(self.body)
        return found["name"] if found else None

    def commands(self) -> list[list[str]]:
        """The words of each command line."""
        lines = self.body.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks(text: str) -> list[Block]:
    """Return the code blocks of a page in order."""
    found = BLOCK.finditer(text)
    return [Block(e["language"], e["body"], e["skip"] is not None) for e in found if e["language"][:1] != "{"]


def parse_command(words: list[str]) -> None:
    """Parse a command line of the program as it would be parsed before it runs; a wrong word raises."""
    command: Any = typer.main.get_command(app)
    rest = words[1:]
    while hasattr(command, "commands"):
        assert set(rest[:1]) & set(command.commands), f"{shlex.join(words)}: no such command"
        command, rest = command.commands[rest[0]], rest[1:]
    command.make_context(shlex.join(words), list(rest))


@dataclass
class Page:
    """A page that is run in a folder."""

    text: str
    folder: Path
    python: WarmPython
    n_scripts: int = 0

    def run(self) -> None:
        """Run every block; the first that fails raises."""
        for scripts in self._scripts():
            self._run(*scripts)

    def _scripts(self) -> Iterator[tuple[str, str]]:
        """Yield name and text of each script, after writing the files that come before it."""
        pending: list[str] = []
        for block in blocks(self.text):
            if block.language == "python" and block.file is None and not block.skipped:
                pending.append(block.body)
                continue
            if block.language == "bash" and pending:
                yield self._name(), "\n".join(pending)
                pending = []
            if block.file is not None:
                (self.folder / block.file).write_text(block.body, encoding="utf-8")
            if block.language == "yaml":
                yaml.safe_load(block.body)
            elif block.language == "python" and block.file and not block.skipped:
                yield block.file, block.body
            elif block.language == "bash":
                for words in block.commands():
                    if words[0] == PROGRAM:
                        parse_command(words)
                    if not block.skipped:
                        assert words[0] == PROGRAM, f"'{shlex.join(words)}' is not a command of {PROGRAM}"
                        yield self._name(), f"from recbole_signed.cli.app import main\nmain({words[1:]!r})\n"
        if pending:
            yield self._name(), "\n".join(pending)

    def _name(self) -> str:
        self.n_scripts += 1
        return f"_block_{self.n_scripts}.py"

    def _run(self, name: str, text: str) -> None:
        script = self.folder / name
        script.write_text(text, encoding="utf-8")
        done = self.python.run(script, cwd=self.folder)
        assert done.status == 0, f"{text}\n{done.out[-2000:]}\n{done.err[-3000:]}"
