"""Writes a model of this package, or of one that registered it, as a contribution to RecBole."""

from __future__ import annotations

import datetime
import json
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

from recbole_signed.errors import UsageError, argument
from recbole_signed.lab.upstream import pages
from recbole_signed.lab.upstream.bundle import Bundler, check_python38, formatted, recipe_of
from recbole_signed.lab.upstream.modules import plain_docstrings
from recbole_signed.lab.upstream.pages import GENERAL, SEQUENTIAL, TRAINER_KEYS, Description, Kind, without_sentences
from recbole_signed.plugin import registry
from recbole_signed.plugin.facts import class_name, default_file

RANGES = registry.PROPERTIES.parent / "tune"
TESTS = "tests/model/test_model_auto.py"
GUIDE = "docs/source/user_guide/model_intro.rst"
LIST = "asset/model_list.json"


@dataclass(frozen=True)
class Exported:
    """What was written."""

    model: str
    folder: str
    into_checkout: bool  # whether lines went into the files of a RecBole checkout
    files: list[str]  # paths below the folder, the model file first
    lines: int  # lines of the model file


def upstream(
    model: str, folder: Path | str, *, author: str | None = None, email: str | None = None, overwrite: bool = False
) -> Exported:
    """Write a model in RecBole's conventions, with all that belongs to it."""
    folder = Path(folder)
    entry = _entry(model)
    recipe = recipe_of(entry.name)
    if recipe.refusal:
        raise UsageError(f"{entry.name} can't be exported: {recipe.refusal}")
    name, lower = entry.name, entry.name.lower()
    bundler = Bundler(entry.module, name, recipe)
    kind = SEQUENTIAL if bundler.is_sequential else GENERAL
    path = folder / kind.folder / f"{lower}.py"
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists; {argument('overwrite', 'True')} replaces it.")
    author = author or _git("user.name") or "the authors of recbole-signed"
    email = email or _git("user.email") or ""
    today = datetime.date.today()
    dropped = (*recipe.methods, *recipe.attributes, *recipe.keys)
    what = Description.from_module(bundler.sources[entry.module], name, dropped)
    text = model_text(bundler, what, _head(author, email, today), dropped)
    check_python38(text, f"{lower}.py")
    file = default_file(entry.name)  # of a model, or of the one that it extends
    defaults = "" if file is None else file.read_text(encoding="utf-8")
    yaml = pages.properties(defaults, recipe, kind)
    whole = {
        f"{kind.folder}/{lower}.py": (text, "the model"),
        f"recbole/properties/model/{name}.yaml": (yaml, "its defaults"),
        f"{kind.guide}/{lower}.rst": (
            pages.user_page(what, yaml, pages.tuning_ranges(RANGES / f"{name}.yaml", recipe), author, kind),
            "its page in the user guide",
        ),
        f"docs/source/recbole/{kind.package}.{lower}.rst": (pages.api_page(name, kind), "its API page"),
    }
    row = pages.model_list_row(what, author, today.year, kind)
    lines = {
        kind.init: (f"from {kind.package}.{lower} import {name}\n", "its import, at the end"),
        TESTS: (pages.test_method(name), f"its test, at the end of {kind.tests}"),
        GUIDE: (f"   model/{kind.name}/{lower}\n", f"its line in the list of {kind.name} recommenders"),
        kind.api: (f"   {kind.package}.{lower}\n", "its line in the list of API pages"),
        LIST: (pages.model_list_text(row) + "\n", f"its row among RecBole's {kind.name} recommenders"),
    }
    inside = is_checkout(folder)
    written = [_write(folder, place, content) for place, (content, _) in whole.items()]
    described = [(place, about) for place, (_, about) in whole.items()]
    for place, (content, about) in lines.items():
        written.append(put(folder, place, content, kind))
        described.append((written[-1], about))
    note = pages.contribution(name, described, inside, _notes(bundler, defaults, text, kind), kind)
    written.append(_write(folder, f"CONTRIBUTION-{name}.md", note))
    return Exported(name, str(folder), inside, written, len(text.splitlines()))


def model_text(bundler: Bundler, what: Description, head: str, dropped: tuple[str, ...] = ()) -> str:
    """Return the file of a model: RecBole's head, the docstring with the reference, imports, helpers and the model."""
    reference = "\n".join(f"    {citation}" for citation in what.citations) or f"    {what.title}."
    parts = [head, f'r"""\n{what.model}\n{"#" * 48}\nReference:\n{reference}\n"""']
    parts.append(_import_block(bundler.imports()))
    for about, code in bundler.sections():
        comment = "\n".join(textwrap.wrap(about, 86, initial_indent="# ", subsequent_indent="# "))
        parts.append(f"{comment}\n\n\n{code}" if about else code)
    text = plain_docstrings("\n\n".join(parts) + "\n")
    if dropped:
        text = _without_docstring_sentences(text, what.model, dropped)
    return formatted(text)


def _without_docstring_sentences(text: str, model: str, dropped: tuple[str, ...]) -> str:
    start = text.rindex(f"class {model}(")
    first = text.index('"""', start) + 3
    last = text.index('"""', first)
    kept = without_sentences(text[first:last], dropped).rstrip() + "\n    "
    return text[:first] + kept + text[last:]


def _import_block(imports: list[str]) -> str:
    """Return the imports in three groups: the standard library, libraries, RecBole."""
    groups: list[dict[str, set[str]]] = [{}, {}, {}]
    for line in imports:
        words = line.split()
        root = words[1].partition(".")[0]
        group = groups[2 if root == "recbole" else 0 if root in sys.stdlib_module_names else 1]
        if words[0] == "from":
            group.setdefault(f"from {words[1]} import ", set()).add(line.partition(" import ")[2])
        else:
            group[line] = set()
    blocks = ["\n".join(start + ", ".join(sorted(names)) for start, names in sorted(part.items())) for part in groups]
    return "\n\n".join(block for block in blocks if block)


def _head(author: str, email: str, today: datetime.date) -> str:
    lines = ["# -*- coding: utf-8 -*-", f"# @Time   : {today.year}/{today.month}/{today.day}", f"# @Author : {author}"]
    return "\n".join([*lines, *([f"# @Email  : {email}"] if email else [])])


def _entry(model: str) -> registry.ModelEntry:
    known = registry.models()
    model = class_name(model)
    by_lower = {name.lower(): name for name in known}
    if model.lower() in by_lower:
        return known[by_lower[model.lower()]]
    stock = {name.lower() for name, _ in registry.stock_models()}
    if model.lower() in stock:
        raise UsageError(f"{model} is RecBole's own model already.")
    raise registry.unknown_model(model, known)


def _notes(bundler: Bundler, yaml: str, text: str, kind: Kind) -> list[str]:
    """Return what is particular to the model of these defaults whose file has this text."""
    dropped = [key for key in TRAINER_KEYS if f"\n{key}:" in f"\n{yaml}"]
    notes = []
    if "check_invariants" in text:  # an argument of sparse tensors that torch 1 does not have
        notes.append("It needs torch 2: it does not run on 1.12, and does on 2.4, the last one for Python 3.8.")
    if dropped:
        names = ", ".join(f"`{key}`" for key in dropped)
        notes.append(f"RecBole's trainer has no {names}: the learning rate stays as it is.")
    if bundler.batches is not None:
        notes.append(
            "Batches are RecBole's batches of likes; the model adds the dislikes, in proportion, and samples "
            "`n_negatives` items for each edge by itself. So training does not repeat a run of recbole-signed number "
            "by number; the loss of a batch and the scores are the same."
        )
    elif kind == GENERAL:
        notes.append("The same data and settings give the same scores as in recbole-signed.")
    return [*notes, bundler.recipe.note] if bundler.recipe.note else notes


def _git(key: str) -> str:
    try:
        done = subprocess.run(["git", "config", "--get", key], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _write(folder: Path, path: str, text: str) -> str:
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return path


# ---- lines in the files of a RecBole checkout, each once ----


def is_checkout(folder: Path) -> bool:
    """Whether the folder holds RecBole's source code, with or without its tests and documentation."""
    return (folder / GENERAL.init).is_file()


def put(folder: Path, path: str, text: str, kind: Kind) -> str:
    """Put lines, each once, where they belong in a file of a checkout, else below ``insert/``; return the place."""
    inside = is_checkout(folder) and (folder / path).is_file()
    place = path if inside else f"insert/{path}"
    file, old, ends = folder / place, "", None
    if file.is_file():
        with file.open(encoding="utf-8") as opened:
            old, ends = opened.read(), opened.newlines
    if _holds(old, text):
        return place
    before = _row_of_before(old, text) if path == LIST else None
    if before is not None:
        new = old[: before.start] + text.strip().rstrip(",") + old[before.stop :]
    else:
        new = _with(kind, path, old, text) if inside else old + text
    file.parent.mkdir(parents=True, exist_ok=True)
    # the line ends that it has, or each line of the file would be a change
    file.write_text(new, encoding="utf-8", newline=ends if isinstance(ends, str) else None)
    return place


def _with(kind: Kind, path: str, old: str, text: str) -> str:
    """Return a file of a checkout with lines in their place."""
    if path == TESTS:
        return _at_the_end_of_the_class(kind.tests, old, text)
    if path == LIST:
        return _into_the_list(kind, old, text)
    if path == kind.api:
        return _after_the_last(rf"^   {re.escape(kind.package)}\.\w+$", path, old, text)
    if path == GUIDE:
        new = _after_the_last(rf"^   model/{kind.name}/\w+$", path, old, text)
        return re.sub(r"(?<=We implement )\d+", lambda match: str(int(match[0]) + 1), new, count=1)
    return f"{old.rstrip()}\n{text.rstrip()}\n"


def _holds(old: str, text: str) -> bool:
    """Whether the lines of ``text`` are among those of ``old``, as whole lines: that of SSF begins that of SSFL."""
    known = re.escape(text.strip(" \n,"))
    return re.search(rf"^ *{known},?$", old, re.MULTILINE) is not None


def _row_of_before(old: str, row: str) -> slice | None:
    """Return where the list has the row of that model from an export before this one, with another author, say."""
    at = old.find(f'"model_link": "{json.loads(row.strip().rstrip(","))["model_link"]}"')
    return None if at < 0 else slice(old.rindex("{", 0, at), old.index("}", at) + 1)


def _at_the_end_of_the_class(name: str, old: str, text: str) -> str:
    match = re.search(rf"^class {name}\b", old, re.MULTILINE)
    if match is None:
        raise UsageError(f"{TESTS} of the checkout has no class {name}.")
    following = re.compile(r"^\S", re.MULTILINE).search(old, match.end())
    end = len(old) if following is None else following.start()
    rest = f"\n\n{old[end:]}" if following else ""
    return f"{old[:end].rstrip()}\n\n{text.rstrip()}\n{rest}"


def _after_the_last(pattern: str, path: str, old: str, text: str) -> str:
    matches = list(re.finditer(pattern, old, re.MULTILINE))
    if not matches:
        raise UsageError(f"{path} of the checkout has no line like '{text.strip()}'.")
    end = matches[-1].end()
    return f"{old[:end]}\n{text.rstrip()}{old[end:]}"


def _into_the_list(kind: Kind, old: str, text: str) -> str:
    link = old.rfind(f'"model_link": "/docs/user_guide/model/{kind.name}/')
    at = old.rfind('"repository": "RecBole"', 0, old.find("}", link)) if link >= 0 else -1
    if at < 0:
        raise UsageError(f"{LIST} of the checkout has no {kind.name} recommender of RecBole to put the new row after.")
    end, row = old.find("}", at) + 1, text.rstrip().rstrip(",")
    return f"{old[:end]},\n{row}{old[end:]}"  # which may be the last row
