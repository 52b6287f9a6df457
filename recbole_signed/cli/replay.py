"""The command that replays a stream."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recbole_signed.cli.output import Json, note_of_missing_extra, print_json, stdout_for_result
from recbole_signed.table import to_markdown


def add_to(app: typer.Typer) -> None:
    """Add the command ``replay`` to ``app``."""

    @app.command()
    def replay(
        file: Annotated[Path, typer.Argument(metavar="FILE", help="Yaml file of the replay, under yaml/online/.")],
        output: Annotated[
            Path | None,
            typer.Option(
                "--output", "-o", help="Folder of the report; for yaml/online/ it is results/online/ unless given."
            ),
        ] = None,
        data_path: Annotated[Path, typer.Option(help="Folder of data sets.")] = Path("atomic_files"),
        as_json: Json = False,
    ) -> None:
        """Compare online updates with retraining on a stream: predict a window, then learn from it, and so on."""
        from recbole_signed.live.replay.stream_spec import StreamSpec

        spec = StreamSpec.read(file)
        with stdout_for_result():
            from recbole_signed.api.streams import replay as replay_file
            from recbole_signed.live.replay.output import plot, replay_table, write
            from recbole_signed.runs.table_file import rows_file_of

            summary = replay_file(file, data_path)

            written = write(spec, summary, output or rows_file_of(file).parent)
            note_of_missing_extra(lambda: plot(summary, written[0].with_suffix(".png")))
        if as_json:
            print_json(summary)
        else:
            typer.echo(to_markdown(replay_table(spec, summary)), nl=False)
