"""Parts of pages that are made from the classes, the result rows and the command line.

What stands between a line ``<!-- generated: WHAT -->`` and ``<!-- end -->`` is for those who read the page in the
repository: ``python docs/_ext/generated_pages.py`` writes it, there and in the README (:mod:`readme_extract`). Tables
that are files of their own are linked there. On the site the whole part is there, as Markdown: ``models``, ``metrics``,
``sign_aware_metrics``, ``commands``, ``file NAME`` (of :data:`FILES`), ``hours``, ``table NAME`` (a table under
yaml/bench), ``leads NAME A,B`` (how far its models A and B are ahead), ``other_tables``, ``tradeoff NAME``,
``front NAME``, ``matched NAME``, ``splits NAME``, ``audits``, ``respond NAME``, ``strengths NAME``, ``wishes NAME``
(files under results/bench/signed), ``stream NAME`` (a replay under yaml/online) or ``tutorial NAME`` (a script under
examples).
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import typer.main
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
SIGNED = ROOT / "results" / "bench" / "signed"
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]

from readme_extract import EXTRACTS, audits  # noqa: E402

END = "<!-- end -->"
FILES = {
    "changelog": ("CHANGELOG.md", ""),
    "contributing": ("CONTRIBUTING.md", ':start-after: "# Contributing"\n:relative-docs: docs/\n:relative-images:\n'),
    "data_format": ("atomic_files/README.md", ":relative-docs: docs/\n"),
}
"""Pages of the site that lie elsewhere, and how they are included."""
MARK = re.compile(
    r"^<!-- (?:generated|extract): (?P<what>\w+)(?: (?P<name>[\w-]+))?(?: (?P<more>[\w, -]+?))? -->$"
    rf"(?:\n(?:(?!<!-- ).)*?^{END}$)?",
    re.MULTILINE | re.DOTALL,
)
CELL = re.compile(r"^# %%( \[markdown\])?\n", re.MULTILINE)
UNDERLINED = re.compile(r"\A.+\n#+\n")
PARAMETER = re.compile(r"^(?P<key>\w+): *(?P<default>.*?) *# *\((?P<type>[^)]+)\) *(?P<meaning>.+)$")


def setup(app: Sphinx) -> dict[str, Any]:
    """Fill marks in whenever a page is read."""
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _fill(app: Sphinx, page: str, source: list[str]) -> None:
    source[0] = filled(source[0])


def filled(text: str) -> str:
    """Replace the marks of a page, and what stands below them, as the site has it."""
    known = {**GENERATORS, **EXTRACTS}
    return MARK.sub(lambda match: known[match["what"]](*filter(None, [match["name"], match["more"]])), text)


def written(page: Path) -> str:
    """Return the text of a page of the repository with what its marks stand for, in the form for readers there."""
    up = "../" * (len(page.relative_to(ROOT).parts) - 1)

    def block(match: re.Match[str]) -> str:
        what, arguments = match["what"], [argument for argument in (match["name"], match["more"]) if argument]
        text = LINKED[what](up, *arguments) if what in LINKED else {**GENERATORS, **EXTRACTS}[what](*arguments)
        body = text.strip("\n")
        mark = match[0].partition("\n")[0]
        return f"{mark}\n{body}\n{END}" if what in EXTRACTS else f"{mark}\n\n{body}\n\n{END}"

    return MARK.sub(block, page.read_text(encoding="utf-8"))


def without_generated(text: str) -> str:
    """Return a page without what is generated."""
    return MARK.sub("", text)


def pages() -> list[Path]:
    """Return the pages with marks."""
    docs = (path for path in (ROOT / "docs").rglob("*.md") if "report" not in path.parts)
    return [path for path in [ROOT / "README.md", *sorted(docs)] if MARK.search(path.read_text(encoding="utf-8"))]


# ---- models and metrics ----


def models() -> str:
    """Return a table of the package's models, a section with the docstring of each, and the list of RecBole's own."""
    from recbole_signed.plugin.facts import list_models

    facts = list_models()
    ours = [model for model in facts if model.origin == "recbole_signed"]
    lines = ["| model | family | uses dislikes | source |", "| --- | --- | --- | --- |"]
    for model in ours:
        used = "yes" if model.uses_dislikes else ""
        lines.append(f"| [{model.name}](#model-{model.name.lower()}) | {model.family} | {used} | {model.source} |")
    sections = [_model(model.name) for model in ours]
    stock: dict[str, list[str]] = {}
    for model in facts:
        if model.origin == "recbole":
            kind = f"not on data with a sign: {model.refused}" if model.refused else model.family
            stock.setdefault(kind, []).append(f"`{model.name}`")
    listed = "\n".join(f"- {', '.join(names)} ({kind})" for kind, names in stock.items())
    return "\n\n".join(["\n".join(lines), *sections, "## RecBole's own models", listed])


def _model(name: str) -> str:
    from recbole_signed.plugin import registry

    entry = registry.models()[name]
    about = UNDERLINED.sub("", inspect.getdoc(import_module(entry.module)) or "")
    parts = [f"(model-{name.lower()})=\n## {name}", _rst(about)]
    parts.append(_rst(f".. autoclass:: {entry.module}.{name}\n   :no-members:\n   :no-index:"))
    parameters = _parameters(name)
    return "\n\n".join([*parts, parameters] if parameters else parts)


def _parameters(name: str) -> str:
    """Return the table of a model's parameters, from the comments of its yaml file of defaults."""
    file = ROOT / "recbole_signed" / "properties" / "model" / f"{name}.yaml"
    rows = [match for line in file.read_text(encoding="utf-8").splitlines() if (match := PARAMETER.match(line))]
    lines = ["| parameter | default | type | meaning |", "| --- | --- | --- | --- |"]
    for match in rows:
        cells = (f"`{match['key']}`", f"`{match['default']}`", match["type"], match["meaning"])
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) if rows else ""


def metrics() -> str:
    """Return the docstring of every metric of dislikes."""
    from recbole_signed.evaluation.metrics import METRICS

    return "\n\n".join(_class_section(f"{metric.__module__}.{name}") for name, metric in METRICS.items())


def sign_aware_metrics() -> str:
    """Return the docstring of every sign-aware metric."""
    from recbole_signed.evaluation.sign_aware_metrics import SIGN_AWARE_METRICS

    return "\n\n".join(_class_section(f"{metric.__module__}.{name}") for name, metric in SIGN_AWARE_METRICS.items())


def _class_section(class_name: str) -> str:
    directive = f".. autoclass:: {class_name}\n   :no-members:\n   :no-index:"
    return f"### {class_name.rpartition('.')[2]}\n\n{_rst(directive)}"


# ---- results ----


def table(name: str) -> str:
    """Return a table, printed from its rows; from its committed text where the rows are not kept."""
    printed = printed_from_rows(ROOT / "yaml" / "bench" / f"{name}.yaml")
    return _nested(printed or (ROOT / "results" / "bench" / f"{name}.md").read_text(encoding="utf-8"))


def leads(name: str, models: str) -> str:
    """Return how far some models of a table are ahead of its others, from the kept outcome of ``significance``."""
    from result_tables import leads_table

    from recbole_signed.lab.significance.pairwise_lines import kept_outcomes
    from recbole_signed.table import to_markdown

    path = ROOT / "yaml" / "bench" / f"{name}.yaml"
    names, outcomes = models.split(","), kept_outcomes(path)
    for model in names:
        assert model in outcomes, f"recbole-signed significance {path.relative_to(ROOT)} --against {model}"
    return _nested(
        to_markdown(leads_table(f"{' and '.join(names)} against the others", [outcomes[model] for model in names]))
    )


def other_tables() -> str:
    """Return the tables that no mark of a page names, in order of their names."""
    return "\n\n".join(map(table, _others()))


def _others() -> list[str]:
    named = {(match["what"], match["name"]) for page in pages() for match in MARK.finditer(page.read_text("utf-8"))}
    views = sorted(path.name.partition(".")[0] for path in (ROOT / "results" / "bench").glob("*.view.json"))
    committed = [name for name in views if (ROOT / "results" / "bench" / f"{name}.md").exists()]
    return [name for name in committed if ("table", name) not in named]


def hours() -> str:
    """Return how many runs each table has and how long they took, from the committed rows.

    Training is in processor time where the row has it: some runs were made beside others.
    """
    from recbole_signed.runs.rows import read_rows
    from recbole_signed.runs.stored import View

    folder = ROOT / "results" / "bench"
    rows = {row.id: row for file in sorted(folder.glob("*.jsonl")) for row in read_rows(file)}
    lines = ["| table | runs | training and test, hours |", "| --- | --- | --- |"]
    for file in sorted(folder.glob("*.view.json")):
        view = View.read(file)
        shown = [id for parts in (view.rows if view else {}).values() for ids in parts.values() for id in ids]
        known = [rows[id] for id in shown if id in rows]
        if not known or len(known) < len(shown):  # its rows are not committed
            continue
        took = sum((row.fit_cpu_seconds or row.fit_seconds or 0.0) + (row.eval_seconds or 0.0) for row in known) / 3600
        lines.append(f"| `{file.name.partition('.')[0]}` | {len(known)} | {took:.1f} |")
    return "\n".join(lines)


def printed_from_rows(yaml_file: Path) -> str | None:
    """Return the Markdown of a table, with its marks of significance; None where there are no rows."""
    from recbole_signed.runs.stored import stored_table
    from recbole_signed.table import to_markdown

    stored = stored_table(yaml_file)
    return None if stored is None else to_markdown(stored.table)


def tradeoff(name: str) -> str:
    """Return what each model has with the dislike aversion that is best on validation, from the rows of its curve."""
    from recbole_signed.lab.analysis.tradeoff_tables import chosen_table

    return _of_curves(name, chosen_table)


def front(name: str) -> str:
    """Return the points of a data set's curves that no other one beats in Recall and in the dislikes that are shown."""
    from result_tables import front_table

    return _of_curves(name, front_table)


def matched(name: str) -> str:
    """Return the dislikes that the first model of a data set's curves shows at the Recall of each other one."""
    from recbole_signed.lab.analysis.tradeoff_tables import matched_table

    return _of_curves(name, matched_table)


def _of_curves(name: str, table_of: Callable[[Any], Any]) -> str:
    from recbole_signed.lab.analysis.tradeoff_curve import read_curves
    from recbole_signed.table import to_markdown

    return _nested(to_markdown(table_of(read_curves(SIGNED / f"{name}.jsonl"))))


def splits(name: str) -> str:
    """Return what models have on several splits, each with the dislike aversion that is best on validation there."""
    from recbole_signed.lab.analysis.tradeoff_tables import splits_table
    from recbole_signed.table import to_markdown

    result = json.loads((SIGNED / f"{name}.json").read_text(encoding="utf-8"))
    return _nested(to_markdown(splits_table(result)))


def respond(name: str) -> str:
    """Return the audits of dislikes on a data set, from their rows."""
    return _of_audits(f"respond-{name}")


def strengths(name: str) -> str:
    """Return the audits of a model at several strengths of the personal verdict."""
    return _of_audits(f"strength-{name}")


def wishes(name: str) -> str:
    """Return what asking for less and more of a feature did in audits."""
    return _of_audits(f"respond-{name}", "wishes_table")


def _of_audits(stem: str, table: str = "respond_table") -> str:
    from recbole_signed.live.respond import responsiveness_table
    from recbole_signed.table import to_markdown

    return _nested(to_markdown(getattr(responsiveness_table, table)(_audits(SIGNED / f"{stem}.jsonl"))))


def _audits(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def draw_audits() -> None:
    """Draw the audits of each data set, a model at several strengths where there are rows of them."""
    from recbole_signed.live.respond.responsiveness_table import draw_responses

    for figure in SIGNED.glob("respond-*.png"):
        name = figure.stem.removeprefix("respond-")
        several = [audit for path in SIGNED.glob(f"strength-{name}.jsonl") for audit in _audits(path)]
        once = [
            audit
            for audit in _audits(figure.with_suffix(".jsonl"))
            if audit["model"] not in {other["model"] for other in several}
        ]
        draw_responses([*several, *once], figure)


def stream(name: str) -> str:
    """Return the tables of a replay."""
    return _nested((ROOT / "results" / "online" / f"{name}.md").read_text(encoding="utf-8"))


def _nested(markdown: str) -> str:
    """Put a document with a title below a heading of the second level."""
    return re.sub(r"^(#+) ", lambda match: f"##{match[1]} ", markdown, flags=re.MULTILINE)


# ---- what lies elsewhere ----


def file(name: str) -> str:
    """Return the directive that includes a file of :data:`FILES`."""
    path, options = FILES[name]
    return f"```{{include}} /../{path}\n{options}```"


def tutorial(name: str) -> str:
    """Return a script in cells as text and code."""
    cells = CELL.split((ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8"))[1:]
    parts = []
    for kind, body in zip(cells[::2], cells[1::2], strict=True):
        if kind:
            parts.append("\n".join(line.removeprefix("#").removeprefix(" ") for line in body.strip().splitlines()))
        else:
            parts.append(f"```python\n{body.strip()}\n```")
    return "\n\n".join(parts)


# ---- reference ----


def commands() -> str:
    """Return a section for every command of the command line."""
    from recbole_signed.cli.app import app

    return "\n\n".join(_command(path, command) for path, command in leaves(typer.main.get_command(app)))


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the commands under a group that the help shows, each with the names that lead to it."""
    subcommands = getattr(command, "commands", None)
    if subcommands is None:
        yield path, command
        return
    for name in command.list_commands(None):  # in the order of the help
        if not subcommands[name].hidden:
            yield from leaves(subcommands[name], (*path, name))


def _command(path: tuple[str, ...], command: Any) -> str:
    context = command.make_context(" ".join(("recbole-signed", *path)), [], resilient_parsing=True)
    parts = [
        f"## {' '.join(path)}",
        command.help,
        f"```text\n{command.get_usage(context).removeprefix('Usage: ')}\n```",
    ]
    shown = [record for parameter in command.params if (record := _described(parameter, context))]
    if shown:
        lines = ["| argument or option | meaning |", "| --- | --- |"]
        lines += [f"| `{name}` | {_escaped(meaning)} |" for name, meaning in shown]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _described(parameter: Any, context: Any) -> tuple[str, str] | None:
    """Return how a parameter is written and what it means; click leaves arguments without a record."""
    record = parameter.get_help_record(context)
    if record is not None:
        return record
    return (parameter.human_readable_name, parameter.help or "") if not getattr(parameter, "hidden", False) else None


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("[", "\\[").replace("<", "\\<").replace("*", "\\*")


def _rst(text: str) -> str:
    return f"```{{eval-rst}}\n{text}\n```"


GENERATORS: dict[str, Callable[..., str]] = {
    "file": file,
    "models": models,
    "metrics": metrics,
    "sign_aware_metrics": sign_aware_metrics,
    "commands": commands,
    "hours": hours,
    "table": table,
    "leads": leads,
    "other_tables": other_tables,
    "tradeoff": tradeoff,
    "front": front,
    "matched": matched,
    "audits": audits,
    "respond": respond,
    "wishes": wishes,
    "strengths": strengths,
    "splits": splits,
    "stream": stream,
    "tutorial": tutorial,
}


# ---- in the repository ----


def _linked(up: str, folder: str, name: str) -> str:
    file = f"results/{folder}/{name}.md"
    title = (ROOT / file).read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
    return f"[{title}]({up}{file})"


def _models(up: str) -> str:
    """Return a table of the package's models with links to their source and their defaults."""
    from recbole_signed.plugin import registry
    from recbole_signed.plugin.facts import list_models

    facts = list_models()
    entries = registry.models()
    lines = ["| model | family | uses dislikes | source | defaults |", "| --- | --- | --- | --- | --- |"]
    for model in facts:
        if model.origin == "recbole_signed":
            code = f"{up}{entries[model.name].module.replace('.', '/')}.py"
            defaults = f"{up}recbole_signed/properties/model/{model.name}.yaml"
            cells = (f"[{model.name}]({code})", model.family, "yes" if model.uses_dislikes else "", model.source)
            lines.append(f"| {' | '.join(cells)} | [yaml]({defaults}) |")
    return "\n".join(lines)


def _metrics(up: str, kind: str) -> str:
    from recbole_signed.evaluation import metrics as of_dislikes
    from recbole_signed.evaluation import sign_aware_metrics

    classes = of_dislikes.METRICS if kind == "METRICS" else sign_aware_metrics.SIGN_AWARE_METRICS
    lines = ["| metric | |", "| --- | --- |"]
    for name, metric in classes.items():
        first = (inspect.getdoc(metric) or "").partition("\n")[0].replace("|", "\\|").replace("``", "`")
        first = re.sub(r":math:`(.+?)`", r"$\1$", first)
        lines.append(f"| [{name}]({up}{metric.__module__.replace('.', '/')}.py) | {first} |")
    return "\n".join(lines)


def _options(up: str) -> str:
    """Return the commands with their options, as far as it does not depend on who prints them."""
    from recbole_signed.cli.app import app

    parts = []
    for path, command in leaves(typer.main.get_command(app)):
        lines = [f"## {' '.join(path)}", "", command.help, "", "| argument or option | meaning |", "| --- | --- |"]
        for parameter in command.params:
            if getattr(parameter, "hidden", False) or parameter.name == "help":
                continue
            named = parameter.param_type_name == "argument"
            names = parameter.metavar if named else ", ".join([*parameter.opts, *parameter.secondary_opts])
            lines.append(f"| `{names}` | {_escaped(getattr(parameter, 'help', None) or '')} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


LINKED: dict[str, Callable[..., str]] = {
    "file": lambda up, name: f"See [{FILES[name][0]}]({up}{FILES[name][0]}).",
    "table": lambda up, name: f"Table: {_linked(up, 'bench', name)}",
    "stream": lambda up, name: f"Table: {_linked(up, 'online', name)}",
    "other_tables": lambda up: "\n".join(f"- {_linked(up, 'bench', name)}" for name in _others()),
    "models": _models,
    "commands": _options,
    "metrics": lambda up: _metrics(up, "METRICS"),
    "sign_aware_metrics": lambda up: _metrics(up, "SIGN_AWARE_METRICS"),
}
"""What is another thing in the repository: it begins with the path to the root."""


if __name__ == "__main__":
    for page in pages():
        page.write_text(written(page), encoding="utf-8")
    draw_audits()
