"""The commands on data sets: ``convert``, ``stats``, ``synth``, and for their versions ``data list`` and ``accept``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recbole_signed.cli.output import Json, note_of_missing_extra, show, stdout_for_result
from recbole_signed.errors import UsageError, counted, ending
from recbole_signed.files import is_plain_name
from recbole_signed.progress import report_progress
from recbole_signed.table import Header, Section, Table, text_lines, to_text

if TYPE_CHECKING:
    from recbole_signed.lab.synth.generator import ProfileComparison

app = typer.Typer(help="The converted data sets: their versions, and whether their files are unchanged.")

Root = Annotated[Path, typer.Option("--data-path", "--root", help="Folder of data sets.")]
_COLUMNS = (
    Header("version", left=True),
    *map(Header, ("rows", "likes", "dislikes", "neutral", "users", "items")),
    *(Header("source", left=True), Header("made by", left=True)),
)


# ---- convert ----

_OWN = {
    "source": "the source as the first word",
    "input": "--input PATH",
    "output": "--output FOLDER",
    "name": "--name NAME",
    "overwrite": "--overwrite",
}
"""What is no option of a source, and how the command takes it."""


def convert(
    source: Annotated[
        str | None, typer.Argument(metavar="SOURCE", help="Kind of raw data; --list shows them all.")
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="OPTION=VALUE",
            help="Options of the source, which 'convert SOURCE --list' shows; also as --option value.",
        ),
    ] = None,
    input_path: Annotated[Path | None, typer.Option("--input", "-i", help="Raw file or folder.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of data sets.")] = Path("atomic_files"),
    name: Annotated[str | None, typer.Option(help="Name of the data set; else after the input.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a data set of that name.")] = False,
    list_sources: Annotated[
        bool, typer.Option("--list", help="List the sources and their options, or those of SOURCE.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Turn raw data into a data set of atomic files."""
    if list_sources:
        described = describe_sources(source)
        show(described, as_json, lambda: _sources_text(described))
        return
    if source is None:
        raise UsageError("convert needs a source; 'recbole-signed convert --list' shows them.")
    with stdout_for_result():
        from recbole_signed.convert import convert as convert_source

        words = parse_options(options or [])
        folder = convert_source(source, input_path, output, name=name, overwrite=overwrite, **words)
        record = {"path": str(folder), **json.loads((folder / "dataset.json").read_text(encoding="utf-8"))}
    show(record, as_json, lambda: _summary_text(record))


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


def describe_sources(only: str | None = None) -> list[dict[str, Any]]:
    """Return every source with its options, or one, as JSON can hold it."""
    from recbole_signed.convert.base import all_sources, source
    from recbole_signed.convert.options import Common, describe

    sources = all_sources() if only is None else {only: source(only)}
    return [
        {
            "name": name,
            "summary": converter.summary,
            "licence": converter.licence,
            "input_needed": converter.input_needed,
            "options": [asdict(option) for option in describe(converter.options_class)],
            "common_options": [asdict(option) for option in describe(Common)],
        }
        for name, converter in sources.items()
    ]


def _sources_text(described: Sequence[Mapping[str, Any]]) -> str:
    """Return the sources for a reader."""
    lines: list[str] = []
    for source in described:
        lines.append(f"{source['name']}: {source['summary']}")
        lines += map(_option_text, source["options"])
    lines.append("every source:")
    lines += map(_option_text, described[0]["common_options"])
    return "\n".join(lines) + "\n"


def _option_text(option: Mapping[str, Any]) -> str:
    default = "" if option["default"] is None else f" (default {option['default']})"
    return f"    {option['name']}={option['type']}  {option['help']}{default}"


def _rows_text(rows: Mapping[str, int]) -> str:
    signs = ", ".join(counted(rows[sign], sign) for sign in ("like", "dislike", "neutral"))
    return f"{counted(rows['total'], 'row')} ({signs})"


def _summary_text(described: Mapping[str, Any]) -> str:
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


# ---- data, stats and synth ----


@app.command("list")
def list_command(
    root: Root = Path("atomic_files"),
    verify: Annotated[bool, typer.Option("--verify", help="Read every file and compare its sha256.")] = False,
    as_json: Json = False,
) -> None:
    """List the data sets of a folder; exit status 1 where files are not those that dataset.json describes."""
    datasets = describe(root, verify=verify)
    show(datasets, as_json, lambda: to_text(listed(datasets, root, verify=verify)))
    raise typer.Exit(1 if any(dataset["problems"] for dataset in datasets) else 0)


@app.command()
def accept(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Data sets whose files were changed.")],
    root: Root = Path("atomic_files"),
    as_json: Json = False,
) -> None:
    """Take files that were changed on purpose: count them again and give them a new version in dataset.json."""
    from recbole_signed.convert.dataset_versions import read_manifest, version
    from recbole_signed.convert.manifest import accept as accept_files

    for name in names:
        if not is_plain_name(name) or not (root / name).is_dir():
            there = [path.name for path in root.iterdir()] if root.is_dir() else []
            raise UsageError(f"there is no data set '{name}' in {root}{ending(name, there)}")
    done = []
    for name in names:
        changed = accept_files(root / name)
        record = read_manifest(root / name)
        assert record is not None
        done.append({"name": name, "version": version(record), "changed": changed})
    show(done, as_json, lambda: "".join(map(_accepted_text, done)))


def _accepted_text(accepted: dict[str, Any]) -> str:
    what = f"accepted {', '.join(accepted['changed'])}" if accepted["changed"] else "nothing had changed"
    return f"{accepted['name']}: {what}; version {accepted['version']}\n"


def describe(root: Path, *, verify: bool) -> list[dict[str, Any]]:
    """Say of each data set in a folder what ``dataset.json`` says, and under ``problems`` what is wrong, by name."""
    from recbole_signed.convert import dataset_versions as versions

    if not root.is_dir():
        raise UsageError(f"there is no folder {root}; give --data-path, or make it with 'recbole-signed convert'.")
    datasets: list[dict[str, Any]] = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        try:
            record = versions.read_manifest(folder)
            problems = versions.changes(folder, record, thorough=verify) if record else []
        except UsageError as error:
            record, problems = None, [str(error)]
        if record is None and not problems and not any(folder.glob("*.inter")):
            continue
        known = record or {}
        datasets.append(
            {
                "name": folder.name,
                "path": str(folder),
                "version": versions.version(known) if known else None,
                **{key: known.get(key) for key in ("rows", "users", "items", "source", "package_version", "licence")},
                "changed_by_hand": known.get("changed_by_hand", []),
                "verified": verify and bool(known) and not problems,
                "problems": problems,
            }
        )
    return datasets


def listed(datasets: list[dict[str, Any]], root: Path, *, verify: bool) -> Table:
    """Return the list for a reader: a table, then a sentence for each problem."""
    notes = []
    for dataset in datasets:
        notes += [f"changed: {problem}" for problem in dataset["problems"]]
        if dataset["version"] is None and not dataset["problems"]:
            notes.append(f"{dataset['path']} has no dataset.json, so nothing is known about its files.")
        if dataset["changed_by_hand"]:
            notes.append(f"{dataset['path']}: {', '.join(dataset['changed_by_hand'])} changed by hand, and accepted.")
    if any(dataset["problems"] for dataset in datasets):
        notes.append("Convert what has changed again, or run 'recbole-signed data accept NAME' if it was intended.")
    elif verify:
        notes.append("All files are as they were made.")
    title = f"data sets in {root}" if datasets else f"no data sets in {root}"
    lines = text_lines([_cells(dataset) for dataset in datasets])
    return Table(title, _COLUMNS, (Section("", lines),), tuple(notes), head=(Header("name", left=True),))


def _cells(data: dict[str, Any]) -> tuple[str, ...]:
    rows = data["rows"] or {}
    counts = [rows.get(sign) for sign in ("total", "like", "dislike", "neutral")]
    numbers = [f"{number:,}" if number is not None else "-" for number in (*counts, data["users"], data["items"])]
    return (data["name"], data["version"] or "-", *numbers, data["source"] or "-", data["package_version"] or "-")


_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}


def stats(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="Name of a data set folder.")],
    data_path: Annotated[
        str | None, typer.Option("--data-path", help="Folder of data sets; else dataset or atomic_files.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for NAME.png.")] = Path("runs/stats"),
    figures: Annotated[bool, typer.Option(help="Draw the page of figures.")] = True,
    as_json: Json = False,
) -> None:
    """Print and plot what is in a data set of atomic files, and what is wrong with it."""
    with stdout_for_result():
        from recbole_signed.atomic import read_rows
        from recbole_signed.convert.dataset_versions import has_dates, read_manifest
        from recbole_signed.lab.stats import analyse, statistics_table
        from recbole_signed.lab.stats.figures import describe_features, draw
        from recbole_signed.runs.provenance import data_folder

        folder = data_folder(dataset, data_path)
        rows = read_rows(folder)
        report = analyse(rows, dated=has_dates(read_manifest(folder)))
        features = describe_features(folder, rows)
        if features:
            report["features"] = features
        picture = output / f"{dataset}.png"
        note = note_of_missing_extra(lambda: draw(dataset, rows, report, picture)) if figures else None
        page = picture if figures and note is None else None
    document = {"name": dataset, "path": str(folder), **report, "figures": page and str(page)}
    drawn = f"\nfigures: {page}\n" if page else ""
    with_note = document | ({"note": note} if note else {})
    show(with_note, as_json, lambda: to_text(statistics_table(dataset, report)) + drawn)


def synth(
    profile: Annotated[str, typer.Option("--profile", "-p", help="kuairand, epinions, ml-1m or yambda.")] = "kuairand",
    edges: Annotated[str, typer.Option("--edges", "-e", help="How many, e.g. 250k, 10M.")] = "1M",
    seed: Annotated[int, typer.Option(help="The same seed gives the same graph.")] = 0,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of data sets.")] = Path("atomic_files"),
    name: Annotated[str | None, typer.Option(help="Name of the data set; else synth-PROFILE-EDGES.")] = None,
    how: Annotated[str, typer.Option("--format", help="inter (atomic files) or npz (arrays).")] = "inter",
    check: Annotated[bool, typer.Option("--check", help="Compare with the profile's data.")] = False,
    write: Annotated[bool, typer.Option(help="Write the data set.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a data set of that name.")] = False,
    as_json: Json = False,
) -> None:
    """Make a synthetic signed graph with time that is like a real one; --check exits with 1 where it is not."""
    count = parse_count(edges)
    if name is not None and not is_plain_name(name):
        raise UsageError(f"--name is '{name}'; it must be the plain name of a folder.")
    with stdout_for_result():
        from time import perf_counter

        from recbole_signed.lab.synth import generate
        from recbole_signed.lab.synth import writer as disk
        from recbole_signed.lab.synth.generator import check as compare
        from recbole_signed.lab.synth.profile import find_profile

        chosen, target = find_profile(profile), output / (name or f"synth-{profile}-{edges.lower()}")
        seconds: dict[str, float] = {}
        compared: list[ProfileComparison] = []
        if write:
            disk.check_target(target, how, overwrite)
        with report_progress(f"synthesis of {chosen.name}") as say:
            began = perf_counter()
            graph = generate(chosen, count, seed, progress=lambda title: say(f"generating {title}"))
            seconds["generate"] = perf_counter() - began
            if check:
                say("checking")
                began = perf_counter()
                compared = compare(graph, chosen)
                seconds["check"] = perf_counter() - began
            if write:
                done = 0

                def wrote(rows: int) -> None:
                    nonlocal done
                    done += rows
                    say(f"writing, {done / len(graph):.0%}")

                began = perf_counter()
                disk.write(graph, target, chosen.name, seed, how, overwrite, wrote)
                seconds["write"] = perf_counter() - began
    document = {
        "profile": chosen.name,
        "edges": len(graph),
        "users": graph.n_users,
        "items": graph.n_items,
        "seed": seed,
        "seconds": seconds,
        "path": str(target) if write else None,
    }
    checked = {"check": [vars(comparison) for comparison in compared]} if check else {}
    show(document | checked, as_json, lambda: to_text(_synth_table(document, compared)))
    raise typer.Exit(0 if all(comparison.ok for comparison in compared) else 1)


def parse_count(text: str) -> int:
    """Parse a number of edges such as ``250k``, ``10M``, ``1.5m`` or ``1_000_000``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgb]?)", text.strip().lower().replace("_", "").replace(",", ""))
    if match is None:
        raise UsageError(f"--edges is '{text}'; write it like 250k, 10M or 1000000.")
    return round(float(match[1]) * _UNITS[match[2]])


def _synth_table(document: dict[str, Any], compared: list[ProfileComparison]) -> Table:
    cost = ", ".join(f"{what} {seconds:.1f} s" for what, seconds in document["seconds"].items())
    size = f"{document['edges']:,} edges, {document['users']:,} users, {document['items']:,} items"
    rows = [
        (
            row.statistic,
            *("-" if value is None else f"{value:.3f}" for value in (row.measured, row.wanted, row.tolerance)),
            "not known" if row.wanted is None else "ok" if row.ok else "OUTSIDE",
        )
        for row in compared
    ]
    columns = (*map(Header, ("here", "real data", "within")), Header("", left=True))
    title = f"{document['path'] or document['profile']}: {size} ({cost})"
    return Table(title, columns, (Section("", text_lines(rows)),), head=(Header("statistic", left=True),))
