"""Finds numbers that somebody wrote into the report's text by hand, where they would outlive the results.

Only what is printed as text counts: not the arguments of functions, mathematics, comments, references and labels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ALLOWED = re.compile(r"\bT[0-3]\b|\bN(?:2|5)\b")
"""Names that hold digits: the tiers of online updates."""
_STATEMENTS = ("if", "let", "for", "while", "set", "show", "import", "include", "context", "return")
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True)
class Stray:
    """A number in a text."""

    line: int
    number: str


def stray_numbers(source: str) -> list[Stray]:
    """Return the numbers in the markup of a Typst source, in order."""
    text = ALLOWED.sub(lambda match: " " * len(match[0]), _Markup(source).printed())
    return [Stray(text.count("\n", 0, match.start()) + 1, match[0]) for match in _NUMBER.finditer(text)]


def check_folder(folder: Path) -> list[str]:
    """Return ``FILE, line N: NUMBER`` for every number in the sections of a report."""
    return [
        f"{path.relative_to(folder)}, line {stray.line}: {stray.number}"
        for path in sorted(folder.rglob("*.typ"))
        if path.name not in ("lib.typ", "main.typ")
        for stray in stray_numbers(path.read_text(encoding="utf-8"))
    ]


class _Markup:
    """One pass over a source, which copies what is printed and blanks the rest, so that places stay."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.out = [character if character == "\n" else " " for character in source]
        self.at = 0

    def printed(self) -> str:
        while self.at < len(self.source):  # a stray closing bracket ends a block of markup early
            self._markup()
            self.at += 1
        return "".join(self.out)

    def _markup(self) -> None:
        """Copy up to the ``]`` that ends this content."""
        while self.at < len(self.source):
            character = self.source[self.at]
            if character == "]":
                return
            if character == "\\":
                self.at += 2
            elif self.source.startswith(("//", "/*"), self.at) and not self.source.startswith("://", self.at - 1):
                self._comment()
            elif character in "$`":
                fence = re.compile(r"`+|\$").match(self.source, self.at)
                assert fence is not None
                end = self.source.find(fence[0], fence.end())
                self.at = len(self.source) if end < 0 else end + len(fence[0])
            elif character == "@" or (character == "<" and re.match(r"<[\w:.-]+>", self.source[self.at :])):
                self.at += 1
                while self.at < len(self.source) and (self.source[self.at].isalnum() or self.source[self.at] in "-_:>"):
                    self.at += 1
            elif character == "#":
                self._code()
            else:
                if character == "[":
                    self.at += 1
                    self._markup()
                else:
                    self.out[self.at] = character
                self.at += 1

    def _comment(self) -> None:
        block = self.source.startswith("/*", self.at)
        end = self.source.find("*/" if block else "\n", self.at)
        self.at = len(self.source) if end < 0 else end + 2 * block

    def _code(self) -> None:
        """Skip the expression after a ``#``, but for the content in it."""
        word = re.compile(r"#([A-Za-z_][\w.-]*)?").match(self.source, self.at)
        assert word is not None
        name = (word[1] or "").rstrip(".-")
        self.at += 1 + len(name)
        if name in _STATEMENTS:
            self._inside("\n")
            return
        while self.at < len(self.source) and self.source[self.at] in "([{":
            self._bracket()
            method = re.compile(r"\.[A-Za-z][\w-]*(?=[(\[])").match(self.source, self.at)
            self.at = method.end() if method else self.at

    def _bracket(self) -> None:
        opening = self.source[self.at]
        self.at += 1
        if opening == "[":
            self._markup()
        else:
            self._inside(_CLOSING[opening])
        self.at += 1

    def _inside(self, closing: str) -> None:
        """Go to ``closing`` at this depth; strings and mathematics are skipped, content is copied."""
        while self.at < len(self.source) and self.source[self.at] != closing:
            character = self.source[self.at]
            if character in '"$':
                self.at += 1
                while self.at < len(self.source) and self.source[self.at] != character:
                    self.at += 1 + (self.source[self.at] == "\\")
                self.at += 1
            elif self.source.startswith(("//", "/*"), self.at):
                self._comment()
            elif character in "([{":
                self._bracket()
            else:
                self.at += 1
