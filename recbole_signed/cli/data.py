"""The commands ``data list`` and ``data accept``: which data sets are there, in which version, and are they whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from recbole_signed.cli.output import Json, print_json
from recbole_signed.errors import UsageError, ending
from recbole_signed.files import is_plain_name
from recbole_signed.table import Header, Section, Table, text_lines, to_text

app = typer.Typer(name="data", help="The converted data sets: their versions, and whether their files are unchanged.")

Root = Annotated[Path, typer.Option("--data-path", "--root", help="Folder of data sets.")]
_COLUMNS = (
    Header("version", left=True),
    *map(Header, ("rows", "likes", "dislikes", "neutral", "users", "items")),
    *(Header("source", left=True), Header("made by", left=True)),
)


@app.command("list")
def list_command(
    root: Root = Path("atomic_files"),
    verify: Annotated[bool, typer.Option("--verify", help="Read every file and compare its sha256.")] = False,
    as_json: Json = False,
) -> None:
    """List the data sets of a folder; exit status 1 where files are not those that dataset.json describes."""
    found = describe(root, verify=verify)
    if as_json:
        print_json(found)
    else:
        typer.echo(to_text(listed(found, root, verify=verify)), nl=False)
    raise typer.Exit(1 if any(each["problems"] for each in found) else 0)


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
    if as_json:
        print_json(done)
        return
    for each in done:
        what = f"accepted {', '.join(each['changed'])}" if each["changed"] else "nothing had changed"
        typer.echo(f"{each['name']}: {what}; version {each['version']}")


def describe(root: Path, *, verify: bool) -> list[dict[str, Any]]:
    """Say of each data set in a folder what ``dataset.json`` says, and under ``problems`` what is wrong, by name.

    Raises:
        UsageError: there is no such folder.
    """
    from recbole_signed.convert import dataset_versions as versions

    if not root.is_dir():
        raise UsageError(f"there is no folder {root}; give --data-path, or make it with 'recbole-signed convert'.")
    found: list[dict[str, Any]] = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        try:
            record = versions.read_manifest(folder)
            problems = versions.changes(folder, record, thorough=verify) if record else []
        except UsageError as error:
            record, problems = None, [str(error)]
        if record is None and not problems and not any(folder.glob("*.inter")):
            continue
        known = record or {}
        found.append(
            {
                "name": folder.name,
                "path": str(folder),
                "version": versions.version(known) if known else None,
                "rows": known.get("rows"),
                "users": known.get("users"),
                "items": known.get("items"),
                "source": known.get("source"),
                "package_version": known.get("package_version"),
                "licence": known.get("licence"),
                "changed_by_hand": known.get("changed_by_hand", []),
                "verified": verify and bool(known) and not problems,
                "problems": problems,
            }
        )
    return found


def listed(found: list[dict[str, Any]], root: Path, *, verify: bool) -> Table:
    """Return the list for a reader: a table, then a sentence for each problem."""
    notes = []
    for each in found:
        notes += [f"changed: {problem}" for problem in each["problems"]]
        if each["version"] is None and not each["problems"]:
            notes.append(f"{each['path']} has no dataset.json, so nothing is known about its files.")
        if each["changed_by_hand"]:
            notes.append(f"{each['path']}: {', '.join(each['changed_by_hand'])} changed by hand, and accepted.")
    if any(each["problems"] for each in found):
        notes.append("Convert what has changed again, or run 'recbole-signed data accept NAME' if it was intended.")
    elif verify:
        notes.append("All files are as they were made.")
    title = f"data sets in {root}" if found else f"no data sets in {root}"
    lines = text_lines([_cells(each) for each in found])
    return Table(title, _COLUMNS, (Section("", lines),), tuple(notes), head=(Header("name", left=True),))


def _cells(each: dict[str, Any]) -> tuple[str, ...]:
    rows = each["rows"] or {}
    counts = [rows.get(sign) for sign in ("total", "like", "dislike", "neutral")]
    numbers = [f"{number:,}" if number is not None else "-" for number in (*counts, each["users"], each["items"])]
    return (each["name"], each["version"] or "-", *numbers, each["source"] or "-", each["package_version"] or "-")
