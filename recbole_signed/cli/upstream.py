"""The command that writes a model as a contribution to RecBole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recbole_signed.cli.output import Json, print_json, stdout_for_result


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line ``app``."""

    @app.command()
    def upstream(
        model: Annotated[str, typer.Argument(metavar="MODEL", help="Model, by its class name.")],
        to: Annotated[Path, typer.Option("--to", help="A RecBole checkout, or a folder for the files.")],
        author: Annotated[str | None, typer.Option(help="For the head of the file; else git's user.name.")] = None,
        email: Annotated[str | None, typer.Option(help="For the head of the file; else git's user.email.")] = None,
        overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model file of that name.")] = False,
        as_json: Json = False,
    ) -> None:
        """Write a model as one file for RecBole, with its yaml, test, pages and list entries."""
        with stdout_for_result():
            from recbole_signed.lab.upstream import upstream as export

            done = export(model, to, author=author, email=email, overwrite=overwrite)
        if as_json:
            print_json(done.as_dict())
        else:
            place = "into the checkout" if done.into_checkout else "to"
            typer.echo(f"{done.model}: {done.lines} lines of model, {len(done.files)} files {place} {done.folder}")
            for path in done.files:
                typer.echo(f"  {path}")
