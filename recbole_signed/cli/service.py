"""The commands around the service: serve, api-key, experiment, simulate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from recbole_signed.cli.output import Json, show, stdout_for_result
from recbole_signed.errors import UsageError, counted, raised_by_sigterm
from recbole_signed.files import require_file

app = typer.Typer(help="What experiments on live traffic say, and how many users they need.")
DEMO = Path("runs") / "demo"
_OPTIONS = {
    "model": "--init MODEL",
    **dict.fromkeys(("data", "dataset", "data_path"), "--dataset, the name or folder of a data set"),
}
"""What is no parameter of a model, and how serve takes it."""

State = Annotated[Path, typer.Option("--state", help="Folder of the online state.")]
ExperimentsFile = Annotated[
    Path | None, typer.Option("--experiments", help="File of experiments, if it is not experiments.yaml in the state.")
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the experiment.")]


@raised_by_sigterm(SystemExit, 0)  # what a first process of a container has to do itself, and the server raises again
def serve(
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="Parameters of the model, with --init; with --input also options of 'convert csv'.",
        ),
    ] = None,
    state: Annotated[Path | None, typer.Option("--state", help="Folder of the online state.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 for any that is free.", min=0, max=65535)] = 8080,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Yaml file of the service.")] = None,
    init: Annotated[
        str | None, typer.Option("--init", metavar="MODEL", help="Begin the state with this model, then serve it.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", help="Name or folder of the data set for --init.")
    ] = None,
    input_path: Annotated[
        Path | None, typer.Option("--input", "-i", help="File of ratings or events for --init, in place of a data set.")
    ] = None,
    items: Annotated[
        Path | None, typer.Option(help="With --input: file of the items, their names and features.")
    ] = None,
    users: Annotated[Path | None, typer.Option(help="With --input: file of the users and their features.")] = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", help="Begin the state with this file of a fitted model, which save() wrote."),
    ] = None,
    names: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Column of the item file with their names; 'title' or 'name' by default."),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes: one that writes, and read replicas.", min=1, max=64)] = 1,
    follow: Annotated[bool, typer.Option("--follow", help="Be a read replica of a state that is written.")] = False,
    writer: Annotated[
        str | None, typer.Option(help="With --follow: address of the service that writes, to which events are handed.")
    ] = None,
    parent: Annotated[int | None, typer.Option(hidden=True, help="Process with whose end a replica ends.")] = None,
    metrics: Annotated[Path | None, typer.Option(hidden=True, help="File for the metrics of a replica.")] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Serve SSF on ml-100k-signed, with nothing to prepare.")] = False,
) -> None:
    """Answer over HTTP: recommendations that follow every event."""
    from recbole_signed.live.serve import start
    from recbole_signed.live.serve.settings import ServeSettings
    from recbole_signed.plugin.assignments import parse_assignments

    given = ServeSettings.read(config)
    raw, words = _raw_options(settings or [], input_path, items, users)
    parameters = parse_assignments(words)
    for key, option in _OPTIONS.items():
        if key in parameters:
            raise UsageError(f"serve takes no {key}=; give {option}.")
    if demo:
        if init or model or dataset or names or input_path:
            raise UsageError(
                "--demo brings its own model and data set; leave out --init, --dataset and --names, and --input."
            )
        state = state or DEMO
        if start.can_begin(state):
            init, dataset, names = "SSF", "ml-100k-signed", "movie_title"
            # preset parameters: the first answer comes in seconds; the genres, of which less and more can be asked for
            parameters = {"auto": False, "features": {"item": ["class"]}, **parameters}
    if state is None:
        raise UsageError("serve needs --state DIR, the folder of an online state, or --demo.")
    if dataset and input_path:
        raise UsageError("--dataset and --input are two kinds of data for --init; give one of them.")
    if bool(init) != bool(dataset or input_path):
        raise UsageError("--init MODEL and --dataset NAME or --input FILE go together.")
    if init and model:
        raise UsageError("--init fits a model, and --model takes a fitted one; give one of them.")
    if parameters and not init:
        raise UsageError("parameters of the model are given with --init; a state that is there keeps its own.")
    if names and not (init or model):
        raise UsageError("--names goes with --init; PUT /v1/items/ID names the items of a state that is there.")
    if writer is not None and not follow:
        raise UsageError("--writer is the address that a read replica hands events to; give --follow too.")
    if follow and (init or model or workers > 1):
        raise UsageError("--follow reads a state that another process writes; leave out --init and --workers.")
    if init or model:
        start.refuse_address(host, port, given)
        start.refuse_directory(state)
        with stdout_for_result():
            if model is not None:
                start.init_from_model(model, state, names)
            else:
                data: Any = dataset
                if input_path is not None:
                    from recbole_signed.api.interactions import from_file

                    data = from_file(input_path, **raw)
                start.init_state(str(init), data, state, parameters, names)
    guarded = given.keys is not None
    if follow:
        ready = None if parent else lambda at: start.announce(at, guarded)
        start.run_replica(state, host, port, given, ready, writer, parent, metrics)
    else:
        start.run_service(
            state, host, port, given, lambda at: start.announce(at, guarded), workers=workers, config=config
        )


def _raw_options(
    words: list[str], path: Path | None, items: Path | None, users: Path | None
) -> tuple[dict[str, Any], list[str]]:
    """Return the options of ``convert csv`` that are among some words, and the other words."""
    files = {side: str(file) for side, file in (("items", items), ("users", users)) if file is not None}
    if path is None:
        for side in files:
            raise UsageError(f"--{side} goes with --input, the file of interactions.")
        return {}, words
    from recbole_signed.cli.data import parse_options
    from recbole_signed.convert.base import source
    from recbole_signed.convert.options import Common, describe

    known = {option.name for kind in (source("csv").options_class, Common) for option in describe(kind)}
    mine = [word for word in words if word.partition("=")[0].removeprefix("--").replace("-", "_") in known]
    given = parse_options(mine)
    for side in ("items", "users"):
        if side in given:
            raise UsageError(f"serve takes no {side}=; give --{side} FILE.")
    return {**given, **files}, [word for word in words if word not in mine]


def api_key(
    role: Annotated[
        str,
        typer.Argument(
            metavar="ROLE", help="read (lists and figures), write (also events and items) or admin (everything)."
        ),
    ],
    keys: Annotated[Path, typer.Option("--keys", help="File of hashed keys; made if it is not there.")],
    comment: Annotated[str, typer.Option(help="Whom it is for.")] = "",
    as_json: Json = False,
) -> None:
    """Make an API key; it is shown once, the file holds its hash."""
    from recbole_signed.live.serve.keys import make_key

    made = make_key(keys, role, comment)
    show({"key": made, "role": role}, as_json, lambda: made + "\n")


def _log_and_experiment(state: Path, name: str, file: Path | None) -> tuple[Any, Any]:
    from recbole_signed.live.serve import TrafficLog
    from recbole_signed.live.serve.experiments import Experiments
    from recbole_signed.live.serve.start import EXPERIMENTS
    from recbole_signed.live.serve.traffic import FILE
    from recbole_signed.live.store.database import existing_log

    if not (state / FILE).is_file():
        existing_log(state)
    if file is not None:  # one in the state is made by the first experiment
        require_file(file, "the file of experiments")
    return TrafficLog(state / FILE, read_only=True), Experiments.read(file or state / EXPERIMENTS)[name]


@app.command("report")
def report(state: State, name: Name, experiments: ExperimentsFile = None, as_json: Json = False) -> None:
    """Compare the variants of an experiment: rates, differences with intervals, corrected p-values."""
    from recbole_signed.live.serve.ab_report import report_of

    log, experiment = _log_and_experiment(state, name, experiments)
    with stdout_for_result():
        result = report_of(log, name, experiment)
    show(result, as_json, lambda: report_text(result))


def report_text(result: dict[str, Any]) -> str:
    """Return a report for a reader."""
    if "wins" in result:
        if result["share"] is None:
            return f"{result['experiment']}: no list with a verdict on either side yet.\n"
        users, requests = (
            ", ".join(f"{name} {count:,}" for name, count in result[wins].items()) for wins in ("wins", "request_wins")
        )
        return (
            f"{result['experiment']}, interleaved: users won by {users}, ties {result['ties']:,}; the second wins "
            f"{result['share']:.1%} [{result['low']:.1%}, {result['high']:.1%}], p {result['pvalue']:.3g}\n"
            f"  (requests won by {requests}, ties {result['request_ties']:,})\n"
        )
    lines = [f"{result['experiment']}: control is {result['control']}"]
    for name, variant in result["variants"].items():
        lines.append(
            f"  {name:16} {variant['users']:8,} users {variant['impressions']:12,.0f} impressions "
            f"like rate {variant['like_rate']:.4f}  dislike rate {variant['dislike_rate']:.4f}"
        )
    for row in result["comparisons"]:
        low, high = (_shown(bound, "+.4f") for bound in row["always_valid"])
        relative, least, most = (_shown(row[name], "+.1%") for name in ("relative", "relative_low", "relative_high"))
        lines.append(
            f"  {row['variant']:16} {row['metric']:14} {relative:>7} [{least}, {most}]  "
            f"p {_shown(row['pvalue_corrected'], '.3g')}  always valid: {low} to {high}"
        )
    if few := [f"{row['metric']} of {row['variant']}" for row in result["comparisons"] if row["few_users"]]:
        lines.append(
            f"  Few users carry most of {', '.join(few)}: only the interval that is valid at every look holds there."
        )
    if result["sample_ratio"]["suspicious"]:
        lines.append("  The numbers of users do not match the shares: the assignment is broken, believe nothing here.")
    else:
        lines.append(f"  The numbers of users match the shares (p {result['sample_ratio']['pvalue']:.3g}).")
    if result["sample_ratio"]["other_shares"]:
        lines.append(
            f"  {result['sample_ratio']['other_shares']:,} users came under other shares, so the differences mix what "
            "was shown at different times; give an experiment with other shares a new name."
        )
    for name, policy in result.get("policies", {}).items():
        rates = [
            f"{sign} rate {_shown(rate['value'], '.4f')} [{_shown(rate['low'], '.4f')}, {_shown(rate['high'], '.4f')}]"
            for sign, rate in (("like", policy["like_rate"]), ("dislike", policy["dislike_rate"]))
        ]
        lines.append(
            f"  First places, had everybody got {name}: {'  '.join(rates)}  {policy['effective_size']:,.0f} effective "
            f"lists, mean weight {policy['weight']:.2f} (about 1 where the draws cover it)"
        )
    if result["cuped"]:
        lines.append("  Differences are adjusted by the users' own rates before the experiment (CUPED).")
    lines.append(
        "Rates are per impression. Below them: the relative difference to the control, the 95 % interval of it alone,\n"
        "p corrected over all of these, and an interval of the absolute difference that is valid at every look."
    )
    return "\n".join(lines) + "\n"


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


@app.command("power")
def power(
    rate: Annotated[float, typer.Option(help="Rate per impression of the control, e.g. 0.1.")],
    effect: Annotated[float, typer.Option(help="Smallest relative change worth finding, e.g. 0.05.")],
    impressions: Annotated[float, typer.Option(help="Impressions of a user during the experiment.")],
    users_per_day: Annotated[float | None, typer.Option(help="New users a day, to tell the days.")] = None,
    as_json: Json = False,
) -> None:
    """Tell how many users each of two variants needs to find an effect with a power of 80 %."""
    from recbole_signed.live.serve.ab_report import users_needed

    n = users_needed(rate, effect, impressions)
    if users_per_day is not None and not 0 < users_per_day < float("inf"):
        raise UsageError(f"--users-per-day is {users_per_day:g}; it must be a finite number above 0.")
    days = None if not users_per_day else 2 * n / users_per_day
    show(
        {"users_per_variant": n, "days": days},
        as_json,
        lambda: f"{n:,} users in each variant" + ("" if days is None else f", {days:.1f} days in all") + "\n",
    )


def simulate(
    url: Annotated[str, typer.Argument(metavar="URL", help="Address of a service, e.g. http://127.0.0.1:8080.")],
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", help="Data set whose verdicts are the truth.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Number of lists that are looked at.", min=1)] = 200,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Length of a list.")] = 10,
    seed: Annotated[int, typer.Option(help="Of users and verdicts.", min=0)] = 0,
    key: Annotated[str | None, typer.Option(envvar="RECBOLE_SIGNED_KEY", help="API key with the role write.")] = None,
    as_json: Json = False,
) -> None:
    """Drive a service with simulated users, who like and dislike what they are shown."""
    from recbole_signed.live.serve.simulator import drive

    outcome = drive(url, dataset, rounds, k, seed, key)
    likes, dislikes = counted(outcome.likes, "like"), counted(outcome.dislikes, "dislike")
    text = (
        f"{counted(outcome.shown, 'item')} looked at in {counted(rounds, 'list')}, {likes}, {dislikes}.\n"
        f"A user looks at the first few and judges some; asked about all, they would like {outcome.expected:.1%}.\n"
    )
    show(vars(outcome), as_json, lambda: text)
