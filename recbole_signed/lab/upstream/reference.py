"""What a model's docstrings say of its paper, in the fields that RecBole's pages and its list of models ask for."""

from __future__ import annotations

import ast
import itertools
import re
import textwrap
from dataclasses import dataclass

from recbole_signed.lab.upstream.edits import plain_docstrings
from recbole_signed.lab.upstream.modules import SourceModule

_CITATION = re.compile(r'^(?P<authors>[^"]+?)\. "(?P<title>.+?)"\s*(?:in\s+)?(?P<rest>.*)$', re.IGNORECASE)
_URL = re.compile(r"https?://\S+")
_ENTRY = re.compile(r'\n(?=\s{4}(?:https?://|[^"\n]+\. "))')  # a line that goes on with one is indented like the first


@dataclass(frozen=True)
class Citation:
    """A paper."""

    authors: str
    title: str
    venue: str
    """As it is written, with the year."""
    link: str
    """Empty where none is given."""

    @classmethod
    def parse(cls, text: str) -> Citation | None:
        """Read ``Authors. "Title." in VENUE YEAR. https://link``; None if it is not written so."""
        match = _CITATION.match(" ".join(text.split()))
        if match is None:
            return None
        url = _URL.search(match["rest"])
        venue = _URL.sub("", match["rest"]).strip(" .")
        return cls(match["authors"].strip(), match["title"].rstrip("."), venue, url[0] if url else "")

    @property
    def year(self) -> str:
        """The year of publication, or an empty text."""
        found = re.findall(r"\b(?:19|20)\d\d\b", self.venue)
        return found[-1] if found else ""

    @property
    def short_venue(self) -> str:
        """``SIGIR'24``, as the list of models has it; the venue itself where it is not one word and a year."""
        name = self.venue.replace(self.year, "").strip(" ,.") if self.year else self.venue
        if not name and "arxiv" in self.link:
            name = "arXiv"
        return f"{name}'{self.year[2:]}" if re.fullmatch(r"[A-Za-z]+", name) and self.year else self.venue

    def __str__(self) -> str:
        venue = f"arXiv {self.venue}" if self.venue == self.year and "arxiv" in self.link else self.venue
        return f'{self.authors}. "{self.title}."' + (f" in {venue}." if venue else "")


@dataclass(frozen=True)
class Description:
    """What a model is."""

    model: str
    title: str
    """In a few words."""
    citations: list[Citation]
    """Its papers; none for a model that has none."""
    method: str
    """The docstring of its class, reStructuredText."""

    @classmethod
    def of(cls, module: SourceModule, model: str, dropped: tuple[str, ...]) -> Description:
        """Read the docstrings of a model's module and class; sentences on what is dropped are left out."""
        paragraphs = (ast.get_docstring(module.tree) or model).split("\n\n")
        head = paragraphs[0].splitlines()
        if len(head) > 1 and set(head[1]) == {"#"}:  # RecBole's own form
            papers = list(itertools.takewhile(lambda line: line.startswith(" "), head[3:]))  # not "Reference code:"
            entries = _ENTRY.split("\n".join(papers)) if papers else []
            title = " ".join(head[2:]) if not entries else model
        else:
            title, entries = " ".join(head), paragraphs[1:]
        citations = [found for each in entries if (found := Citation.parse(each.strip())) is not None]
        statement = module.definitions[model]
        method = ast.get_docstring(statement) if isinstance(statement, ast.ClassDef) else ""
        short = title.removeprefix(f"{model}:").partition("Source:")[0].strip(" .") or model
        return cls(model, short, citations, without_sentences(plain_docstrings(method or short), dropped))


def without_sentences(text: str, about: tuple[str, ...]) -> str:
    """Return a docstring without the sentences that mention one of the names ``about``."""
    if not about:
        return text
    mark = re.compile("|".join(rf"``{name}``|:meth:`{name}`" for name in about))
    paragraphs = []
    for paragraph in text.split("\n\n"):
        if mark.search(paragraph):
            indent = paragraph[: len(paragraph) - len(paragraph.lstrip())].replace("\n", "")
            sentences = re.split(r"(?<=[.!?])\s+(?=[A-Z])", " ".join(paragraph.split()))
            kept = " ".join(each for each in sentences if not mark.search(each))
            paragraph = textwrap.fill(kept, 110, initial_indent=indent, subsequent_indent=indent)
        if paragraph.strip():
            paragraphs.append(paragraph)
    return "\n\n".join(paragraphs)
