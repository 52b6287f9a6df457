"""The command that writes recommendations of a fitted model for many users."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from recbole_signed.cli.output import Json, print_json, stdout_for_result
from recbole_signed.errors import UsageError, counted


def add_to(app: typer.Typer) -> None:
    """Add the command ``recommend`` to the command line ``app``."""

    @app.command()
    def recommend(
        model: Annotated[Path, typer.Option("--model", "-m", help="Saved model, or a checkpoint (.pth) of a run.")],
        output: Annotated[Path, typer.Option("--output", "-o", help="File to write: .parquet or .csv.")],
        users: Annotated[
            Path | None,
            typer.Option(help="Raw ids: one a line (.txt), or a table with a column 'user' (.csv, .parquet, ...)."),
        ] = None,
        everyone: Annotated[bool, typer.Option("--all", help="Recommend to all users that the model knows.")] = False,
        k: Annotated[int, typer.Option("--k", "-k", help="Items for each user.")] = 20,
        dislike_aversion: Annotated[
            float | None, typer.Option(help="In place of the fitted value (SSF, SSFL, SSFT).")
        ] = None,
        dislike_strength: Annotated[
            float | None,
            typer.Option(help="How far what is near to a dislike falls, 0 to 1, in place of the fitted value."),
        ] = None,
        include_seen: Annotated[
            bool, typer.Option("--include-seen", help="Also items the user has an edge to.")
        ] = False,
        data_path: Annotated[
            Path | None, typer.Option(help="Of a checkpoint: folder of data sets, if it is another one now.")
        ] = None,
        device: Annotated[str, typer.Option(help="Where scores are computed, e.g. cuda:0.")] = "cpu",
        as_json: Json = False,
    ) -> None:
        """Write the best items of many users to a file, with raw ids."""
        if (users is None) == (not everyone):
            raise UsageError("say to whom to recommend: --users FILE or --all, one of the two.")
        with stdout_for_result():
            from recbole_signed.api import load
            from recbole_signed.api.bulk import checked_format, read_users, write_recommendations

            checked_format(output)  # before a model of a gigabyte is read
            chosen = None if users is None else read_users(users)
            fitted = load(model, data_path=data_path, device=device)
            told = write_recommendations(
                fitted,
                output,
                chosen,
                k,
                include_seen=include_seen,
                dislike_aversion=dislike_aversion,
                dislike_strength=dislike_strength,
            )
        if as_json:
            print_json(told)
        else:
            typer.echo(_text(told), nl=False)


def _text(told: dict[str, Any]) -> str:
    unknown = told["unknown_users"]
    without = f" ({unknown:,} of them have no edges in the model: column 'known')" if unknown else ""
    speed = told["users"] / max(told["seconds"], 1e-9)
    rows, users = counted(told["rows"], "recommendation"), counted(told["users"], "user")
    return f"{rows} for {users}{without} in {told['seconds']:.1f} s ({speed:,.0f} users/s)\nwritten: {told['output']}\n"
