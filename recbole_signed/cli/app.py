"""The command line: one function per command, each calling one of the library.

With ``--json`` a command writes exactly one JSON document to standard output; logs and progress go to standard error.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

import typer

from recbole_signed import __version__
from recbole_signed.cli import analysis, data, lab, service, state
from recbole_signed.cli.output import (
    MODEL,
    Dataset,
    Files,
    Json,
    Seed,
    Settings,
    names_in,
    print_json,
    show,
    stdout_for_result,
    terminal_width,
)
from recbole_signed.errors import (
    MissingExtraError,
    UsageError,
    nearest,
    one_sentence,
    options_named,
    outside_cause,
    raised_by_sigterm,
)
from recbole_signed.plugin import registry
from recbole_signed.plugin.facts import ModelInfo, list_models
from recbole_signed.table import Header, Section, Table, check_format, render, text_lines, to_text

INTERRUPTED = 130

# typer stands on click, or from 0.24 or so on a copy of its own: this finds the base of usage errors in either
_ClickError: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

_COLUMNS = shutil.get_terminal_size().columns
_NARROW = _COLUMNS < 70  # panels would cut the names of options off

app = typer.Typer(
    name="recbole-signed",
    rich_markup_mode=None if _NARROW else "rich",
    context_settings={"terminal_width": _COLUMNS} if _NARROW else {},
    help="Recommendation on signed graphs (likes and dislikes) as a RecBole plugin. "
    "The shell completes commands and options after 'recbole-signed --install-completion'.",
    pretty_exceptions_enable=False,
)

# RecBole's own way to write a key, --learning_rate=0.01, is let through to the arguments, as are options of a source
_FREE_WORDS = {"ignore_unknown_options": True}


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
    imported: Annotated[
        list[Path] | None,
        typer.Option("--import", metavar="FILE", help="Import a Python file, which registers models or metrics."),
    ] = None,
) -> None:
    for file in imported or []:
        registry.import_file(file)
    if version:
        typer.echo(__version__)
        raise typer.Exit()


def run(
    context: typer.Context,
    model: Annotated[str, MODEL],
    dataset: Dataset,
    settings: Settings = None,
    config: Files = None,
    seed: Seed = None,
    save: Annotated[bool, typer.Option(help="Keep the model's checkpoint in runs/.")] = True,
    per_user: Annotated[
        Path | None, typer.Option("--per-user", help="Keep the test metrics of every user in this parquet file.")
    ] = None,
    serve: Annotated[
        bool, typer.Option("--measure-serving", help="Measure what the trained model costs in use.")
    ] = False,
    threads: Annotated[int | None, typer.Option(help="Threads of torch; by default by the size of the data.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the result alone.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show RecBole's log, with every setting.")] = False,
    as_json: Json = False,
) -> None:
    """Train and evaluate one model on one data set."""
    from recbole_signed.plugin.assignments import parse_assignments

    options = [
        option for parameter in context.command.params for option in (*parameter.opts, *parameter.secondary_opts)
    ]
    for word, after in zip_longest(settings or [], (settings or [])[1:], fillvalue="VALUE"):
        if word.startswith("-") and "=" not in word:
            value = "VALUE" if after.startswith("-") or "=" in after else after
            setting = f"; a setting of the model or its training is given as {word.strip('-')}={value}."
            raise UsageError(f"run has no option '{word}'{nearest(word, options) or setting}")
    overrides = parse_assignments(settings or [])
    if threads is not None:
        overrides["threads"] = threads
    if quiet and verbose:
        raise UsageError("--quiet and --verbose exclude each other; give one of the two.")
    files = names_in(config)
    with stdout_for_result():
        from recbole_signed.runs import run as run_once

        say = None if verbose else lambda line: None if quiet else typer.echo(line, err=True)
        row = run_once(model, dataset, files, overrides, seed, save=save, per_user=per_user, serve=serve, say=say)
        from recbole_signed.runs.building import run_table

    show(row.as_dict(), as_json, lambda: to_text(run_table(row)))


def models(as_json: Json = False) -> None:
    """List the models that can be run: this package's first, then RecBole's own."""
    with stdout_for_result():
        infos = list_models()
    show([info.as_dict() for info in infos], as_json, lambda: to_text(_models_table(infos)))


def _models_table(models: list[ModelInfo]) -> Table:
    """Return the list for a reader: a line for each of ours, and one for each family of RecBole's."""
    ours = [model for model in models if model.origin != "recbole"]
    stock: dict[tuple[str, str], list[str]] = {}
    for model in models:
        if model.origin == "recbole":
            stock.setdefault(("" if model.refused else model.family, model.refused), []).append(model.name)
    rows = [(model.name, "*" if model.uses_dislikes else "", model.family, model.source) for model in ours]
    return Table(
        "Models of recbole_signed and of packages that register theirs (*: learns from dislikes)",
        tuple(Header(name, left=True) for name in ("Dislikes", "Family", "Source")),
        (Section("", text_lines(rows)),),
        (
            "RecBole's own models (they learn from likes alone):",
            *(f"{family}: {', '.join(names)}" for (family, refused), names in stock.items() if not refused),
            "Not on data with a sign:",
            *(f"{', '.join(names)}: {refused}" for (_, refused), names in stock.items() if refused),
        ),
        head=(Header("Model", left=True),),
    )


def doctor(
    security: Annotated[bool, typer.Option("--security", help="Say what is trusted, and why, instead.")] = False,
    self_test: Annotated[bool, typer.Option(help="Train a small model too (some ten seconds).")] = True,
    as_json: Json = False,
) -> None:
    """Check versions, known-bad combinations and a short run; exit status 1 where something is wrong."""
    if security:
        from recbole_signed.cli.doctor import trusted

        reasons = trusted()
        show(reasons, as_json, lambda: "\n".join(f"{what}: {why}" for what, why in reasons.items()) + "\n")
        return
    with stdout_for_result():
        from recbole_signed.cli.doctor import diagnose, render

        report = diagnose(self_test=self_test)
    show(report.as_dict(), as_json, lambda: render(report) + "\n")
    raise typer.Exit(0 if report.ok else 1)


def compare(
    table: Annotated[Path, typer.Argument(metavar="TABLE.yaml", help="Models, data sets and seeds; see yaml/bench/.")],
    only: Annotated[list[str] | None, typer.Option(help="Run and show these models alone (A,B).")] = None,
    dataset: Annotated[
        list[str] | None, typer.Option("--dataset", "-d", help="Run and show these data sets alone, or pools of them.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for rows and table.")] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Runs at a time.")] = 1,
    per_user: Annotated[
        bool, typer.Option("--per-user", help="Repeat finished runs whose values per user are not there.")
    ] = False,
    finished: Annotated[bool, typer.Option("--finished", help="Run nothing; show the rows that are there.")] = False,
    table_format: Annotated[str, typer.Option("--format", help="text, markdown or latex.")] = "text",
    latex: Annotated[Path | None, typer.Option(help="Write the table as LaTeX to this file too.")] = None,
    as_json: Json = False,
) -> None:
    """Run what is missing of a table, and print it; exit status 1 if a run failed."""
    from recbole_signed.files import replace_text
    from recbole_signed.runs import compare as compare_table

    check_format(table_format)
    labels = names_in(only)
    with stdout_for_result():
        comparison = compare_table(table, labels, output, jobs, per_user, names_in(dataset), finished)
    if latex is not None:
        replace_text(latex, render(comparison.table, "latex"))
    show(
        [row.as_dict() for row in comparison.rows],
        as_json,
        lambda: render(comparison.table, table_format, terminal_width(), color=sys.stdout.isatty()),
    )
    raise typer.Exit(1 if comparison.failed else 0)


_PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "Data": (data.convert, data.stats, data.synth),
    "Experiments": (run, models, lab.tune, compare, lab.significance, analysis.tradeoff, analysis.respond, lab.replay),
    "A fitted model": (analysis.recommend, analysis.segments),
    "Live service": (service.serve, service.api_key, service.simulate),
    "This package": (doctor, lab.upstream),
}
"""The commands of each panel: in the order in which somebody meets them who begins with a raw file."""
for _panel, _commands in _PANELS.items():
    for _command in _commands:
        _free = _FREE_WORDS if _command in (run, data.convert) else {}
        app.command(rich_help_panel=_panel, context_settings=_free)(_command)
app.add_typer(data.app, name="data", rich_help_panel="Data")
app.add_typer(state.app, name="state", rich_help_panel="Live service")
app.add_typer(service.app, name="experiment", rich_help_panel="Live service")


def main(arguments: Sequence[str] | None = None, commands: typer.Typer = app) -> None:
    """Run the command line and exit: 0 done, 1 something failed, 2 wrong input, 130 interrupted (SIGTERM too)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):  # tables and ids have characters that few other encodings have
        sys.stdout.reconfigure(encoding="utf-8")
    try:
        _check_text(words)
        with options_named(), raised_by_sigterm(KeyboardInterrupt):
            status = commands(_imports_first(words) or ["--help"], standalone_mode=False)
    except (UsageError, MissingExtraError) as error:
        status = _refuse(str(error), words)
    except _ClickError as error:
        said, group = error.format_message(), getattr(error, "ctx", None)
        if group is not None and said.startswith("No such command") and "Did you mean" not in said:
            said = f"{said.removesuffix('.')}; '{group.command_path} --help' lists them."
        status = _refuse(said, words)
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except Exception as error:
        sentence = outside_cause(error, words)
        if sentence is None:
            raise
        status = _refuse(sentence, words)
    if status == INTERRUPTED:  # also what newer versions of typer make of Ctrl-C
        sys.stderr.write("Interrupted.\n")
    sys.exit(status if isinstance(status, int) else 0)


def _imports_first(words: Sequence[str]) -> list[str]:
    """Return the words with each ``--import FILE`` before the command, wherever it was written."""
    free = words.index("--") if "--" in words else len(words)
    named = {number for number in range(free) if words[number].partition("=")[0] == "--import"}
    named |= {number + 1 for number in named if words[number] == "--import"}
    rest = [word for number, word in enumerate(words) if number not in named]
    return [word for number, word in enumerate(words) if number in named] + rest


def _check_text(words: Sequence[str]) -> None:
    """Refuse bytes that are no UTF-8: no result, log or report could name what they stand for."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"the word {word!a} is not text in UTF-8; rename the file, or correct it.") from error


def _refuse(message: str, words: Sequence[str]) -> int:
    sentence = one_sentence(message)
    sys.stderr.write(f"recbole-signed: {sentence}\n")
    if "--json" in words:
        with contextlib.suppress(OSError):  # the output may be what can't be written
            print_json({"error": sentence})
    return 2
