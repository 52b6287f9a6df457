"""Command lines drawn at random: every command with its options, keys and files, and values of all types for them.

All is drawn from one ``Random`` that Hypothesis makes: where it draws the parts itself, most of its examples repeat
parts of others.
"""

import copy
import hashlib
import json
import math
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from random import Random
from typing import Any

import typer
import yaml

from recbole_signed.cli.app import app
from recbole_signed.data.settings import SETTING_KEYS
from recbole_signed.plugin.configuration import FREE_KEYS, recbole_keys
from recbole_signed.plugin.ranges import RANGES

HELD_BACK = {"--self-test", "--demo", "--help", "--install-completion", "--show-completion"}
"""Options that start a long training of their own, or end before anything is looked at."""
MODELS = ("SSF", "SSFL", "SSFT", "SGCN", "SiReN", "SignedEASE", "BPR", "LightGCN", "Pop", "EASE", "ItemKNN", "GRU4Rec")
FILES = ("table.yaml", "space.yaml", "stream.yaml", "serve.yaml", "keys.yaml", "drawn.yaml")
FOLDERS = ("state", "atomic_files", "atomic_files/toy-signed", "folder", ".", "new", "no/where")
OTHERS = ("model.rs", "ratings.csv", "users.txt", "noise.bin", "empty", "out.parquet", "out.csv", "no.yaml")

ODD = (
    *("&a [*a]", "!!int x", "!!bool x", "!!set [a]", "!!timestamp x", '"\\0"', '"\\ud800"', "9" * 5000),
    *("~", "", "null", "1e400", "2020-01-01", "2020-13-41", "2020-01-01 10:00:00", "&a [*a]", "[1,", "{a: b", "0x1F"),
    *("1:30", "yes", ".inf", ".nan", "- 1", "'", "!!set {a}", "!!binary aGk=", "[0,inf)", "@x", "%"),
    "!!python/object:os.system {}",
)
"""Texts that yaml reads in its own way, or not at all."""


def a_name(random: Random) -> str:
    """Draw a text; no slash, dot or tilde: a file of that name stays in the folder of the test."""
    letters = [chr(random.choice([random.randrange(33, 127), random.randrange(1, 0x2FFF)])) for _ in range(7)]
    return "".join(each for each in letters if each not in "/.~")[: random.randrange(8)]


def a_number(random: Random) -> int | float:
    """Draw a number: small ones, shares, and those at the ends of what a computer counts."""
    ends = (2**31, 2**31, 2**63, 2**64, 10**400, -(2**40), math.inf, -math.inf, math.nan, 1e-320, 1e308, -0.0)
    return random.choice([random.randrange(-3, 40), random.random(), random.gauss(0, 1e6), random.choice(ends)])


def a_value(random: Random, depth: int = 2) -> Any:
    """Draw a value of any type that yaml can write."""
    kind = random.randrange(9 if depth else 6)
    if kind < 6:
        odd = random.choice([date(2020, 1, 1), datetime(2020, 1, 1, 10), b"hi", "\0", "\ud800", "²", "../x", "x" * 300])
        return (None, random.random() < 0.5, a_number(random), a_number(random), a_name(random), odd)[kind]
    inner = [a_value(random, depth - 1) for _ in range(random.randrange(4))]
    return inner if kind < 8 else {a_value(random, 0): each for each in inner}


def in_yaml(value: Any) -> str:
    """Return a value as yaml on one line."""
    return yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=2**20).removesuffix("...\n").strip()


def a_text(random: Random) -> str:
    """Draw what may stand after an equals sign."""
    return random.choice([in_yaml(a_value(random)), random.choice(ODD), a_name(random)])


KEYS = sorted({*SETTING_KEYS, *FREE_KEYS, *recbole_keys(), *RANGES} - {"gpu_id", "data_path"})
"""Keys of RecBole and of this package; a path or a device of this machine is not looked for."""
SHORT = {"epochs": 1, "stopping_step": 1, "training_budget": 1}
DOTTED = ("eval_args.order", "eval_args.split", "eval_args.mode", "eval_args.group_by", "a.b.c")


def a_key(random: Random) -> str:
    """Draw a key of RecBole or of this package, or none."""
    return random.choice([random.choice(KEYS), random.choice(sorted(RANGES)), random.choice(DOTTED), a_name(random)])


def an_assignment(random: Random) -> str:
    """Draw ``key=value``."""
    plain = f"{random.choice(KEYS)}={random.choice(['True', '1', '[1]', 'x', '{}'])}"
    number = f"{random.choice(sorted(RANGES))}={a_number(random)}"
    return random.choice([plain, number, f"{a_key(random)}={a_text(random)}"])


TABLE: dict[str, Any] = {
    "title": "t",
    "models": {
        "Pop": {"seeds": [1], "tuned": False, "start": {"rank": 4}, "per_dataset": {"toy-signed": {"topk": [10]}}},
        "Other": {"model": "Pop", "eval_args": {"order": "RO"}},
    },
    "datasets": {"toy-signed": {"dataset": "toy-signed", "pool": "toy", "data_path": "atomic_files"}},
    "common": {"topk": [10, 20], "metrics": ["Recall", "NDCG"], "tuned": {"name": "a", "data": "b"}, "protocol": None},
    "seeds": [1],
    "columns": ["recall@10"],
    "costs": ["train"],
    "relative_to": ["Pop"],
    "per_user": True,
    "extends": "table.yaml",
    "note": "n",
}
STREAM: dict[str, Any] = {
    "title": "t", "dataset": "toy-signed", "cut": 0.5, "windows": 10,
    "models": {"SSF": {"settings": {"rank": 4}, "arms": ["none", "online"], "auto": False}, "o": {"model": "EASE"}},
    "sign_rule": None, "cutoffs": [10, 20], "timed_events": 2, "max_windows": 10, "freshness": [], "seed": 1,
}  # fmt: skip
FORMS: dict[str, tuple[dict[str, Any], ...]] = {
    "table": (TABLE, {"models": ["Pop"], "datasets": ["toy-signed"], "seeds": [1], "columns": ["recall@10"]}),
    "space": ({"rank": [4, 8], "dislike_aversion": {"uniform": [0.0, 1.0]}, "learning_rate": {"log_uniform": [1, 2]}},),
    "file": (STREAM,),
    "service": (
        {
            "limits": {"k": 5, "batch": 10}, "schedule": {"refit": 1.0}, "quality": {"sample": 0.5},
            "impressions": True, "keys": "keys.txt", "source": "redis://127.0.0.1:9/x",
            "allow_origins": ["http://a"], "allow_hosts": ["recommendations.example"],
        },
    ),
    "config": (
        {
            "epochs": 1, "topk": [5], "metrics": ["Recall"],
            "eval_args": {"order": "TO", "split": {"RS": [0.8, 0.1, 0.1]}, "mode": {"valid": "full", "test": "full"}},
            "valid_metric": "NDCG@5", "sign_rule": {"like": "rating >= 4", "dislike": "rating <= 2"},
            "load_col": {"inter": ["user_id", "item_id", "sign", "timestamp"]},
            "val_interval": {"timestamp": "[0,inf)"}, "features": {"item": ["class"], "user": "all"},
        },
    ),
}  # fmt: skip
"""What a valid file of each kind looks like, with all that it may hold."""


def _places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to each value within a document, mappings and lists included."""
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in inner:
        yield (*path, key)
        yield from _places(value, (*path, key))


def _exchange(random: Random, content: Any) -> None:
    """Exchange, leave out or add a value anywhere in a document."""
    places = list(_places(content))
    *path, last = random.choice(places)
    place = content
    for key in path:
        place = place[key]
    chance = random.random()
    if chance < 0.1:
        del place[last]
    elif chance < 0.25 and isinstance(place, dict):
        place[random.choice([a_key(random), a_value(random, 0)])] = a_value(random)
    elif chance < 0.35:
        place[last] = [place[last]] if random.random() < 0.5 else {a_name(random): place[last]}
    else:
        place[last] = a_value(random)


def a_document(random: Random, kind: str) -> str:
    """Draw the text of a yaml file: a valid one of its kind with values exchanged, left out and added at any depth."""
    if random.random() < 0.15:
        return a_text(random)
    content = copy.deepcopy(random.choice(FORMS[kind]))
    optional = [key for key in content if key not in ("models", "datasets", "dataset", "cut", "windows", "title")]
    for key in random.sample(optional, random.randrange(len(optional) + 1)):
        del content[key]
    for _ in range(random.choice([0, 1, 1, 1, 2, 3])):
        if content:
            _exchange(random, content)
    return in_yaml(content)


def spoil(random: Random, folder: Path) -> Path | None:
    """Exchange something in one of the JSON or yaml files below a folder, as someone who crafts it would.

    The checksum of a manifest fits again. Returns the file; None where there is none.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".jsonl", ".yaml"))
    path = random.choice(files)
    lines = path.read_text(encoding="utf-8")
    manifest = path.name == "manifest.json"
    try:
        content = yaml.safe_load(lines) if path.suffix == ".yaml" else json.JSONDecoder().raw_decode(lines)[0]
        _exchange(random, content)
    except (IndexError, ValueError, yaml.YAMLError):  # nothing in it
        return None
    if path.suffix == ".yaml":
        text = in_yaml(content)
    else:
        text = json.dumps(content, indent=1 if manifest else None, default=str, skipkeys=True)
        text += f"\n{hashlib.sha256(text.encode()).hexdigest()}\n" if manifest else "\n"
    path.write_text(text, encoding="utf-8", errors="replace")
    return path


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command of the program with the words that call it."""
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        elif not command.deprecated:
            yield (*path, name), command


COMMANDS = sorted(commands())
OF_KEYS = [each for each in COMMANDS if any(parameter.name == "settings" for parameter in each[1].params)]
OF_FILES = [each for each in COMMANDS if any(parameter.name in ("table", "file") for parameter in each[1].params)]
_READ_AS = {"table": "table", "space": "space", "file": "file", "config": "config"}
"""Option -> the kind of file in :data:`FORMS` that it reads."""
_LIKELY: dict[str, tuple[str, ...]] = {
    "model": (*MODELS, "model.rs"), "init": MODELS,
    "dataset": ("toy-signed", "toy-signed", "toy-signed", "bare", "nothing"),
    "source": ("csv", "toy", "movielens", "kuairand", "amazon"), "input_path": ("ratings.csv", "folder", "empty"),
    "config": ("keys.yaml", "drawn.yaml", "drawn.yaml", *FILES),
    "table": ("table.yaml", "drawn.yaml", "drawn.yaml", "drawn.yaml"),
    "space": ("space.yaml", "drawn.yaml", "drawn.yaml"),
    "file": ("stream.yaml", "drawn.yaml", "drawn.yaml", "drawn.yaml"), "state": ("state", "folder", "new"),
    "users": ("users.txt", "noise.bin", "4"), "url": ("http://127.0.0.1:9", "127.0.0.1", "file:///etc/hostname"),
    "edges": ("300", "1k"), "trials": ("1",), "jobs": ("1",), "role": ("read", "write", "admin"),
    "table_format": ("text", "markdown", "latex"), "device": ("cpu", "cuda:7", "meta", "nonsense"),
    "g": ("0,1", "a", ""),
}  # fmt: skip


_NUMBERS = {"seed", "threads", "budget", "timeout", "prune_after", "dislike_aversion"} | {
    "rate",
    "effect",
    "impressions",
}


def _likely(parameter: Any) -> tuple[str, ...]:
    if parameter.name in _LIKELY:
        return _LIKELY[parameter.name]
    if isinstance(parameter.default, (int, float)) or parameter.name in _NUMBERS:
        return "1", "0", "2", "-1", "0.5", "inf", "nan", str(2**70)
    return *FILES, *FOLDERS, *OTHERS, "name"


def a_call(random: Random) -> tuple[list[str], str]:
    """Draw the words of a command, with what it needs more often than not, and the content of ``drawn.yaml``.

    The content is of the kind that the command reads.
    """
    path, command = random.choice(random.choice([COMMANDS, OF_KEYS, OF_FILES]))
    options: list[str] = []
    words: list[str] = []
    for parameter in command.params:
        if set(parameter.opts) & HELD_BACK or parameter.name == "settings":
            continue
        needed = parameter.required or parameter.name in ("model", "dataset")
        if random.random() > (0.97 if needed else 0.12):
            continue
        value = random.choice(_likely(parameter)) if random.random() < 0.85 else a_text(random)
        if parameter.param_type_name == "argument":
            words.append(value)
        elif parameter.is_flag:
            options.append(random.choice([*parameter.opts, *parameter.secondary_opts]))
        else:
            options += [random.choice(parameter.opts), value]
    if (path, command) in OF_KEYS:
        given = [an_assignment(random) for _ in range(random.choice([0, 1, 1, 2]))]
        words += [f"{key}={value}" for key, value in SHORT.items() if not any(each.startswith(key) for each in given)]
        words += given
    if path == ("doctor",):
        options.append("--no-self-test")
    extra = [a_text(random)] if random.random() < 0.05 else []
    kinds = [_READ_AS[each.name] for each in command.params if each.name in _READ_AS] or ["config"]
    kind = "service" if path == ("serve",) else random.choice(kinds)
    return [*path, *options, *words, *extra], a_document(random, kind)


def write_inputs(folder: Path) -> None:
    """Write the files that the words name, but for the state and the model, which take longer to make."""
    for name, content in {
        "table.yaml": "models: [Pop]\ndatasets: [toy-signed]\nseeds: 1\n",
        "space.yaml": "rank: [4, 8]\n",
        "stream.yaml": "title: t\ndataset: toy-signed\ncut: 0.8\nwindows: 2\nmodels: [pop]\n",
        "serve.yaml": "limits: {k: 5}\n",
        "keys.yaml": "epochs: 1\n",
        "drawn.yaml": "",
        "empty": "",
        "users.txt": "1\n2\n",
        "ratings.csv": "user,item,rating,date\n1,2,5,2020-01-01\n2,2,1,2020-01-02\n2,3,4,2020-01-03\n",
    }.items():
        (folder / name).write_text(content, encoding="utf-8")
    (folder / "drawn.jsonl").write_text('{"model": "Pop", "dataset": "toy-signed", "seed": 1}\n', encoding="utf-8")
    (folder / "noise.bin").write_bytes(bytes(range(256)) * 8)
    (folder / "folder").mkdir()
    bare = folder / "atomic_files" / "bare"  # ratings without a sign
    bare.mkdir(parents=True)
    rows = [f"{user}\t{item}\t{(user + item) % 5}\t{user * item}" for user in range(12) for item in range(20)]
    (bare / "bare.inter").write_text("user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + "\n".join(rows))
