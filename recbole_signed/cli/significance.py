"""The command that tests a table's differences: ``significance``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recbole_signed.cli.output import Json, names_in, print_json, stdout_for_result, terminal_width
from recbole_signed.progress import told
from recbole_signed.table import check_format, render

Labels = Annotated[list[str] | None, typer.Option("--only", help="Compare these models alone (A,B).")]


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line ``app``."""

    @app.command()
    def significance(
        table: Annotated[Path, typer.Argument(metavar="TABLE.yaml", help="A finished table; see 'compare'.")],
        metric: Annotated[
            list[str] | None, typer.Option("--metric", help="Metrics (recall@20,ndcg@20: the default).")
        ] = None,
        against: Annotated[
            str | None, typer.Option(help="The model that the others are compared with; else SSF, or the best.")
        ] = None,
        alpha: Annotated[float, typer.Option(help="Level of the tests; 1 - alpha is that of the intervals.")] = 0.05,
        only: Labels = None,
        dataset: Annotated[
            list[str] | None,
            typer.Option("--dataset", "-d", help="Compare on these data sets alone, or pools of them."),
        ] = None,
        output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder of the table's rows.")] = None,
        resamples: Annotated[int, typer.Option(help="Of the permutation test and of the bootstrap.")] = 10_000,
        seed: Annotated[int, typer.Option(help="Of the resamples.")] = 0,
        table_format: Annotated[str, typer.Option("--format", help="text, markdown or latex.")] = "text",
        as_json: Json = False,
    ) -> None:
        """Test whether a table's model is better than each other one: paired tests over users, Holm-corrected."""
        from recbole_signed.lab.significance import pairwise_table
        from recbole_signed.lab.significance import significance as compare_users

        check_format(table_format)
        with stdout_for_result(), told("tests") as say:
            found = compare_users(
                table,
                names_in(metric),
                against,
                alpha=alpha,
                only=names_in(only),
                datasets=names_in(dataset),
                output=output,
                resamples=resamples,
                seed=seed,
                progress=lambda what, share: say(f"{what}, {share:.0%}"),
            )
        if as_json:
            print_json(found)
        else:
            typer.echo(render(pairwise_table(found), table_format, terminal_width()), nl=False)
