"""Commands on the state directory of an online system: its versions, its log, its integrity."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from recbole_signed.cli.output import Json, show
from recbole_signed.errors import UsageError, counted, printable

app = typer.Typer(help="Inspect, verify, compact and refit the state directory of an online system.")
versions = typer.Typer(help="List, pin, roll back and remove the versions of an online state.")
app.add_typer(versions, name="versions")

LARGEST = 2**63 - 1  # the largest number that a log can be asked for
State = Annotated[Path, typer.Argument(metavar="STATE", help="Folder of the online state.")]
Name = Annotated[str, typer.Argument(metavar="VERSION", help="Name of a version, as 'list' shows it.")]


def _print(document: Any, as_json: bool, text: str) -> None:
    show(document, as_json, lambda: printable(text) + "\n")


def _versions(state: Path) -> Any:
    from recbole_signed.live.store.database import existing_log
    from recbole_signed.live.store.state import VERSIONS
    from recbole_signed.live.store.versions import Versions

    existing_log(state)
    return Versions(state / VERSIONS)


@versions.command("list")
def list_versions(state: State, as_json: Json = False) -> None:
    """List the versions, oldest first; the one to start from is marked."""
    listed = _versions(state).describe()
    lines = ["  version   seq          made                  size MB  model"]
    for version in listed:
        seq = "damaged" if version.damage else str(version.applied_seq)
        notes = " ".join(filter(None, (version.model, version.data, "(pinned)" * version.pinned)))
        mark = "*" if version.current else " "
        lines.append(f"{mark} {version.name:9} {seq:12} {version.created:21} {version.bytes / 1e6:7.1f}  {notes}")
    _print([vars(version) for version in listed], as_json, "\n".join(lines) if listed else "There is no version yet.")


@versions.command()
def pin(
    state: State,
    version: Name,
    undo: Annotated[bool, typer.Option("--undo", help="Let it be thrown away again.")] = False,
    as_json: Json = False,
) -> None:
    """Keep a version from being thrown away; may be done while the state is being written."""
    _versions(state).pin(version, not undo)
    _print({"version": version, "pinned": not undo}, as_json, f"{version} is {'no longer ' if undo else ''}pinned.")


@contextlib.contextmanager
def _held_versions(state: Path) -> Iterator[Any]:
    """Give the versions of a state that nobody writes meanwhile."""
    from recbole_signed.files import DirectoryLock

    held = _versions(state)
    with contextlib.closing(DirectoryLock(state)):
        yield held


@versions.command()
def rollback(state: State, version: Name, as_json: Json = False) -> None:
    """Start from an older version the next time; events since then are replayed on it, none is lost."""
    with _held_versions(state) as held:
        held.rollback(version)
    _print({"current": version}, as_json, f"{version} is the version to start from.")


@versions.command()
def gc(
    state: State,
    keep: Annotated[int, typer.Option(help="Number of newest versions to keep, beside pinned and current ones.")] = 3,
    as_json: Json = False,
) -> None:
    """Throw old versions away."""
    with _held_versions(state) as held:
        gone = held.collect(keep)
    _print({"removed": gone}, as_json, f"Removed: {', '.join(gone)}." if gone else "Nothing to remove.")


@app.command()
def compact(state: State, as_json: Json = False) -> None:
    """Replace the rows up to the oldest version (all, without one) by the edges they led to."""
    from recbole_signed.live.store.database import existing_log
    from recbole_signed.live.store.state import OnlineState

    log = existing_log(state)
    before = log.stat().st_size
    with OnlineState.open(state, create=False) as opened:
        if not opened.versions.names():
            opened.recover()
            for _ in opened.replay():
                pass
        seq = opened.compact()
    after = log.stat().st_size
    text = f"Rows up to seq {seq} are compacted; the log went from {before / 1e6:.1f} to {after / 1e6:.1f} MB."
    _print({"base_seq": seq, "bytes_before": before, "bytes_after": after}, as_json, text)


@app.command()
def refit(state: State, as_json: Json = False) -> None:
    """Learn from scratch and save that as a version; what was learned from users who were forgotten goes with it.

    For a state that nobody has open; a service that runs takes POST /v1/refit.
    """
    from recbole_signed.live import OnlineRecommender

    with contextlib.closing(OnlineRecommender.open(state)) as opened:
        opened.refit().result()
        name, left, version = opened.snapshot(), opened.erase(), opened.version
    lines = [f"{name} is the version to start from: {version}, from scratch."]
    if left:
        lines.append(f"Something of forgotten users is left: {left}.")
    pending = {"rows": left.rows, "factors": left.factors, "reasons": list(left.reasons)}
    _print({"version": name, "model": version, "pending_erasure": pending}, as_json, "\n".join(lines))
    raise typer.Exit(1 if left else 0)


@app.command()
def backup(
    state: State,
    target: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the backup, new or of an earlier one.")],
    destroyed: Annotated[
        bool, typer.Option("--destroyed", help="Note that a backup no longer exists: erasures do not wait for it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Copy a state that opens as it is, while it may be written; users forgotten later go from the copy too."""
    from recbole_signed.live.store import back_up
    from recbole_signed.live.store.backup import note_destroyed
    from recbole_signed.live.store.database import existing_log

    if destroyed:
        existing_log(state)
        note_destroyed(state, target)
        _print({"destroyed": str(target)}, as_json, f"Erasures do not wait for {target} any more.")
        return
    info = back_up(state, target)
    text = f"{target} holds {state} up to seq {info.last_seq}, with {info.version or 'no version'}."
    _print(vars(info), as_json, text)


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(metavar="BACKUP", help="Folder that 'state backup' made.")],
    state: State,
    as_json: Json = False,
) -> None:
    """Make a state directory of a backup, once all of it is verified."""
    from recbole_signed.live.store.backup import restore as restore_state

    info = restore_state(source, state)
    text = f"{state} is the state of {info.directory} at {info.made}, up to seq {info.last_seq}."
    _print(vars(info), as_json, text)


@app.command()
def export(
    state: State,
    output: Annotated[Path, typer.Argument(metavar="FILE", help="A file that ends in .parquet or .csv.")],
    user: Annotated[str | None, typer.Option(help="Write the rows of this user alone.")] = None,
    as_json: Json = False,
) -> None:
    """Write the likes, dislikes, skips and views in force to a file; the state may be written meanwhile."""
    from recbole_signed.api import write_feedback

    counts = write_feedback(state, output, user, progress=not as_json)
    _print(
        counts,
        as_json,
        f"{output}: {counted(counts['rows'], 'row')}, {counted(counts['likes'], 'like')} and "
        f"{counted(counts['dislikes'], 'dislike')} among them; "
        f"users: {counts['users']:,}, items: {counts['items']:,}; up to seq {counts['seq']}.",
    )


@app.command("log")
def inspect(
    state: State,
    after: Annotated[int, typer.Option(help="Show rows with a greater seq.", min=0, max=LARGEST)] = 0,
    limit: Annotated[int, typer.Option(help="Number of rows to show.", min=0, max=LARGEST)] = 10,
    event_id: Annotated[str | None, typer.Option(help="Tell whether an event of this id was taken.")] = None,
    as_json: Json = False,
) -> None:
    """Check the log for damage and show its size and its rows; it may be written meanwhile."""
    from recbole_signed.live.events import NAMES, id_of
    from recbole_signed.live.store.database import existing_log
    from recbole_signed.live.store.event_log import EventLog
    from recbole_signed.live.store.line_files import DeadLetterFile
    from recbole_signed.live.store.state import DEAD_LETTERS

    with contextlib.closing(EventLog(existing_log(state), read_only=True)) as opened:
        opened.verify()
        rows = opened.read(max(after, opened.base_seq), limit)
        shown = [
            {
                "seq": seq,
                "user_id": opened.users.tokens([user])[0],
                "item_id": opened.items.tokens([item])[0],
                "type": NAMES[kind],
                "timestamp": stamp,
            }
            for seq, user, item, kind, stamp in zip(
                *(column.tolist() for column in (rows.seq, rows.user, rows.item, rows.type, rows.timestamp)),
                strict=True,
            )
        ]
        summary: dict[str, Any] = {
            "last_seq": opened.last_seq,
            "base_seq": opened.base_seq,
            "users": opened.users.n_known,
            "items": len(opened.items) - 1,
            "forgotten_users": len(opened.users.tombstones),
            "dead_letters": sum(1 for _ in DeadLetterFile(state / DEAD_LETTERS)),
            "bytes": opened.path.stat().st_size,
        }
        if event_id is not None:
            summary["event_known"] = opened.known(id_of(event_id, "event_id"))
    lines = [f"{key.replace('_', ' ')}: {value}" for key, value in summary.items()]
    lines += [
        f"{row['seq']:>10}  {row['type']:11} {row['user_id'] or '-'}  {row['item_id'] or '-'}  {row['timestamp']}"
        for row in shown
    ]
    _print({**summary, "rows": shown}, as_json, "\n".join(lines))


@app.command()
def verify(state: State, as_json: Json = False) -> None:
    """Check all files of a state for damage: log, base, versions, registers; exit status 1 where there is any."""
    from recbole_signed.live.store.database import existing_log

    path = existing_log(state)
    damage, rejected = _damage(state, path)
    n = len(_versions(state).names())
    lines = [f"{name}: {reason}" for name, reason in damage.items()]
    summary = f"{counted(n, 'version')}, {counted(rejected, 'rejected event')}"
    lines.append(f"{summary}: {'damaged' if damage else 'no damage found'}.")
    _print({"damage": damage, "versions": n, "dead_letters": rejected}, as_json, "\n".join(lines))
    raise typer.Exit(1 if damage else 0)


def _damage(state: Path, log_file: Path) -> tuple[dict[str, str], int]:
    """Return what is wrong with each damaged file or folder of a state, and the number of rejected events."""
    from recbole_signed.live.store.announcements import LINES
    from recbole_signed.live.store.backup import BACKUPS
    from recbole_signed.live.store.event_log import EventLog
    from recbole_signed.live.store.line_files import DeadLetterFile, read_lines
    from recbole_signed.live.store.state import DEAD_LETTERS
    from recbole_signed.live.store.versions import read_manifest, read_tensors

    damage: dict[str, str] = {}

    def look(name: str, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except UsageError as error:
            damage[name] = str(error)
            return None

    def base_of_log() -> str | None:
        with contextlib.closing(EventLog(log_file, read_only=True)) as log:
            log.verify()
            return log.base

    def read_base(folder: Path) -> None:
        read_tensors(folder, read_manifest(folder), "edges")

    base, newer = "", look(log_file.name, base_of_log)
    while newer is not None and newer != base:  # a writer may put another one in its place while it is read
        damage.pop(base, None)
        base = newer
        look(base, partial(read_base, state / base))
        newer = look(log_file.name, base_of_log) if base in damage else base
    for register in (BACKUPS, LINES):
        look(register, partial(read_lines, state / register))
    versions = _versions(state)
    for name in versions.names():
        look(name, partial(versions.load, name))
        if damage.pop(name, None) and (versions.folder / name).is_dir():  # neither thrown away nor written meanwhile
            look(name, partial(versions.load, name))
    if versions.pointer_is_damaged():
        damage["CURRENT"] = "it names no version that is there; name one with 'state versions rollback'."
    return damage, look(DEAD_LETTERS, lambda: sum(1 for _ in DeadLetterFile(state / DEAD_LETTERS))) or 0
