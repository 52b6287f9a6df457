"""The commands that look at data sets and make synthetic ones: ``stats`` and ``synth``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recbole_signed.cli.output import Json, note_of_missing_extra, print_json, stdout_for_result
from recbole_signed.errors import UsageError
from recbole_signed.files import is_plain_name
from recbole_signed.progress import told
from recbole_signed.table import Header, Section, Table, text_lines, to_text

if TYPE_CHECKING:
    from recbole_signed.lab.synth.profile import ProfileComparison

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line ``app``."""

    @app.command()
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
        if as_json:
            document = {"name": dataset, "path": str(folder), **report, "figures": page and str(page)}
            print_json(document | ({"note": note} if note else {}))
        else:
            typer.echo(to_text(statistics_table(dataset, report)), nl=False)
            if page is not None:
                typer.echo(f"\nfigures: {page}")

    @app.command()
    def synth(
        profile: Annotated[
            str, typer.Option("--profile", "-p", help="kuairand, epinions, ml-1m or yambda.")
        ] = "kuairand",
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
            document = _make(
                profile,
                count,
                seed,
                output / (name or f"synth-{profile}-{edges.lower()}"),
                how,
                check,
                write,
                overwrite,
            )
        compared: list[ProfileComparison] = document.pop("compared")
        if as_json:
            checked = {"check": [each.as_dict() for each in compared]} if check else {}
            print_json(document | checked)
        else:
            typer.echo(to_text(_synth_table(document, compared)), nl=False)
        raise typer.Exit(0 if all(each.ok for each in compared) else 1)


def parse_count(text: str) -> int:
    """Parse a number of edges such as ``250k``, ``10M``, ``1.5m`` or ``1_000_000``.

    Raises:
        UsageError: it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgb]?)", text.strip().lower().replace("_", "").replace(",", ""))
    if found is None:
        raise UsageError(f"--edges is '{text}'; write it like 250k, 10M or 1000000.")
    return round(float(found[1]) * _UNITS[found[2]])


def _make(
    profile: str, edges: int, seed: int, target: Path, how: str, checked: bool, written: bool, overwrite: bool
) -> dict[str, Any]:
    from time import perf_counter

    from recbole_signed.lab.synth import generate
    from recbole_signed.lab.synth import writer as disk
    from recbole_signed.lab.synth.profile import find_profile

    wanted = find_profile(profile)
    if written:
        disk.check_target(target, how, overwrite)
    with told(f"synthesis of {wanted.name}") as say:
        began = perf_counter()
        graph = generate(wanted, edges, seed, progress=lambda title: say(f"generating {title}"))
        document: dict[str, Any] = {
            "profile": wanted.name,
            "edges": len(graph),
            "users": graph.n_users,
            "items": graph.n_items,
            "seed": seed,
            "seconds": {"generate": perf_counter() - began},
            "compared": [],
        }
        if checked:
            from recbole_signed.lab.synth.profile import check

            say("checking")
            began = perf_counter()
            document["compared"] = check(graph, wanted)
            document["seconds"]["check"] = perf_counter() - began
        if written:
            done = 0

            def wrote(rows: int) -> None:
                nonlocal done
                done += rows
                say(f"writing, {done / len(graph):.0%}")

            began = perf_counter()
            disk.write(graph, target, disk.Origin(wanted.name, edges, seed), how, overwrite, wrote)
            document["seconds"]["write"] = perf_counter() - began
    return document | {"path": str(target) if written else None}


def _synth_table(document: dict[str, Any], compared: list[ProfileComparison]) -> Table:
    cost = ", ".join(f"{what} {seconds:.1f} s" for what, seconds in document["seconds"].items())
    size = f"{document['edges']:,} edges, {document['users']:,} users, {document['items']:,} items"
    rows = [
        (
            each.statistic,
            *("-" if value is None else f"{value:.3f}" for value in (each.measured, each.wanted, each.tolerance)),
            "not known" if each.wanted is None else "ok" if each.ok else "OUTSIDE",
        )
        for each in compared
    ]
    columns = (*map(Header, ("here", "real data", "within")), Header("", left=True))
    title = f"{document['path'] or document['profile']}: {size} ({cost})"
    return Table(title, columns, (Section("", text_lines(rows)),), head=(Header("statistic", left=True),))
