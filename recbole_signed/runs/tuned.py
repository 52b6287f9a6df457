"""What a tuning chose: ``yaml/model/<data set>/<Model>.yaml``, RecBole keys under a comment on how they were found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from recbole_signed.errors import UsageError
from recbole_signed.files import is_plain_name
from recbole_signed.plugin.assignments import TUNED, space_file
from recbole_signed.yaml_spec import Loader, read_yaml, yaml_text

_START = "# tuning:"
_TAKEN_OVER = {"name", "data"}


@dataclass(frozen=True)
class Tuned:
    """The content of such a file."""

    values: dict[str, Any]  # RecBole keys
    how: dict[str, Any]  # what the comment says: `trials`, `tried`, `training_budget`, `seed`, `metric` and more


def tuned_path(model: str, name: str, root: Path | str = TUNED) -> Path:
    """Return where the parameters of a model are kept that were chosen on a data set, or under another name."""
    return Path(root) / name / f"{model}.yaml"


def to_yaml(tuned: Tuned, heading: str) -> str:
    """Return the file: a heading of one line or more, how the values were found, the values."""
    how = yaml_text({"tuning": tuned.how}, allow_unicode=True)
    comment = "".join(f"# {line}\n" for line in [*heading.splitlines(), *how.splitlines()])
    return comment + yaml_text(tuned.values, allow_unicode=True)


def read_tuned(path: Path) -> Tuned:
    """Read a file that ``tune`` wrote."""
    values = read_yaml(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = [line for line in lines if line.startswith("#")]
    block = comment[comment.index(_START) :] if _START in comment else []
    try:
        content = yaml.load("\n".join(line.removeprefix("# ") for line in block), Loader=Loader) or {}
        how = content.get("tuning")
    except yaml.YAMLError:
        how = None
    if not isinstance(how, dict) or not isinstance(how.get("trials"), int):
        raise UsageError(
            f"{path} does not say how many trials it comes from; make it with 'recbole-signed tune', or put its keys "
            "into the table."
        )
    return Tuned(values, how)


def tuned_choice(value: Any, *, whole: bool = False) -> Any:
    """Return what a table's key ``tuned`` says, if it may; of a mapping that is not ``whole``, one key is enough."""
    least: set[str] = _TAKEN_OVER if whole else set()
    taken_over = isinstance(value, Mapping) and least <= set(value) <= _TAKEN_OVER
    names = value.values() if taken_over else [] if value is None or isinstance(value, bool) else [value]
    if not all(is_plain_name(name) for name in names):
        raise UsageError(
            f"'tuned' is {value!r}; it must be true, false, the name of a folder in {TUNED}, or, for parameters that "
            "were chosen on another data set, {name: FOLDER, data: DATASET}."
        )
    return value


def tuned_for(model: str, dataset: str, choice: Any, data_sha256: str, command: str) -> Tuned | None:
    """Return what a table's key ``tuned`` asks for; None for defaults, and for a model that has nothing to tune."""
    choice = tuned_choice(choice, whole=True)
    if choice is None or choice is False:
        return None
    chosen_on = None
    if isinstance(choice, Mapping):
        choice, chosen_on = choice["name"], choice["data"]
        command = f"recbole-signed tune -m {model} -d {chosen_on} --name {choice}"
    path = tuned_path(model, dataset if choice is True else choice)
    if not path.is_file():
        if not space_file(model).is_file():
            return None
        raise UsageError(f"the table asks for {model} tuned, but there is no {path}; '{command}' makes it.")
    tuned = read_tuned(path)
    if chosen_on is not None and tuned.how.get("dataset") != chosen_on:
        raise UsageError(f"{path} was chosen on {tuned.how.get('dataset')}, but the table says on {chosen_on}.")
    if chosen_on is None and tuned.how.get("data_sha256") != data_sha256:
        raise UsageError(f"{path} was chosen on other data than '{dataset}' is now; '{command}' makes it again.")
    return tuned


def how_in_row(tuned: Tuned | None) -> dict[str, Any] | None:
    """Return what a result row keeps of a tuning."""
    if tuned is None:
        return None
    return {key: tuned.how.get(key) for key in ("trials", "training_budget", "seed", "metric", "split")} | {
        key: tuned.how[key]
        for key in ("tried", "budget_unit", "max_steps", "edges")
        if tuned.how.get("budget_unit") and tuned.how.get(key)
    }


def budgets_text(how: Mapping[str, Mapping[str, Any] | None]) -> str:
    """Return the sentence of a table's small print on the models (label -> how) of one data set; empty without any."""
    budgets: dict[str, list[str]] = {}
    for label, tuning in how.items():
        budgets.setdefault("" if tuning is None else _budget(tuning), []).append(label)
    rest = f", without tuning: {', '.join(budgets.pop(''))}" if "" in budgets else ""
    if not budgets:
        return ""
    if len(budgets) == 1:
        return f"tuned on validation with {next(iter(budgets))} for each model{rest}"
    listed = "; ".join(f"{what} ({', '.join(labels)})" for what, labels in budgets.items())
    return f"tuned on validation with {listed}{rest}"


def _budget(how: Mapping[str, Any]) -> str:
    seconds, steps = how.get("training_budget"), how.get("max_steps")
    limits = [f"{seconds:g} {how.get('budget_unit', 's')}"] if seconds else []
    limits += [f"{steps} steps"] if steps else []
    trials = f"{how['trials']} trial{'s' if how['trials'] != 1 else ''}"
    return trials + (f" of at most {' and '.join(limits)}" if limits else "")
