"""One run: train a model, choose its best epoch on validation, evaluate it on the test part, keep it as a row."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import chain, count
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.data import create_dataset, data_preparation
from recbole.utils import EvaluatorType, ModelType, argument_list, get_model, get_trainer, init_logger, init_seed

from recbole_signed.compat.checkpoint import VOCABULARY
from recbole_signed.compat.log import each_warning_once, own_arguments_hidden
from recbole_signed.data.dataset import SignedDataset
from recbole_signed.data.split import holds_nothing_out
from recbole_signed.errors import UsageError, argument, counted
from recbole_signed.evaluation.collector import Recorded, recorded
from recbole_signed.memory import memory_at_rest, memory_bytes, reset_peak_memory
from recbole_signed.model import SignedRecommender
from recbole_signed.plugin import make_config, split_of
from recbole_signed.plugin.assignments import as_word
from recbole_signed.plugin.facts import facts_of
from recbole_signed.plugin.run_config import given_settings, quiet_log
from recbole_signed.runs.provenance import config_hash, data_sha256, data_version, digest, machine, versions
from recbole_signed.runs.rows import NO_VALUES, RunRow
from recbole_signed.runs.user_values import write
from recbole_signed.trainer.checkpoints import rng_state, set_rng_state

_SAY_SECONDS = 5.0  # how often a training tells its progress


@dataclass(frozen=True)
class Validated:
    """How far a training is at a validation."""

    epoch: float  # passes over the training data
    score: float  # of `valid_metric`
    steps: int  # of the optimizer
    cpu_seconds: float  # processor time since the training began


class _Spent:
    """Wall and processor time, in seconds, of all that is counted."""

    wall = cpu = 0.0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Add the time of the block."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu


@each_warning_once()
def run(
    model: str,
    dataset: str,
    config_files: Sequence[str | Path] = (),
    overrides: Mapping[str, Any] | None = None,
    seed: int | None = None,
    *,
    save: bool = True,
    per_user: Path | str | None = None,
    serve: bool = False,
    test: bool = True,
    cache: DataCache | None = None,
    on_validation: Callable[[Validated], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> RunRow:
    """Train and evaluate a model with RecBole's own parts, as ``run_recbole`` does.

    With ``eval_args.split`` ``{RS: [1, 0, 0]}`` the model is fitted to everything, and the row holds no metrics.

    Differences to it: on signed data, unless ``metrics`` and ``topk`` are set, the metrics of dislikes are
    evaluated too, at 10 and 20; the checkpoint goes to ``runs/`` under a name of its own (RecBole's own name
    has the second in it, so that two runs started at once overwrite each other's); no FLOPs are counted.

    Args:
        model: class name of any model that RecBole finds.
        dataset: name of a data set.
        config_files: RecBole yaml files, later ones win.
        overrides: configuration keys above the files; ``eval_args.order`` sets one entry of ``eval_args``.
        seed: RecBole's ``seed``, above all; it decides the random split and the start of the training.
        save: keep the checkpoint.
        per_user: file for the test metrics of every user, see :mod:`recbole_signed.runs.user_values`.
        serve: measure, in a process of its own, what the trained model costs in use (``serve_seconds`` and what follows
            it in the row). Before either, the model works on a tiny data set, so that memory and time are those of the
            model and not of libraries that are used for the first time.
        test: evaluate the test part; without, ``test`` of the row is empty and no checkpoint is needed.
        cache: what earlier runs of this process read, for runs that differ in other things than data.
        on_validation: called after each validation of a model that is trained in epochs; what it raises ends the run
            and is raised here.
        say: told in a few lines what is run and how far it is. RecBole's log then shows warnings alone on standard
            error; the file in ``log/`` has all of it.

    Returns:
        What is kept of the run: ``valid`` and ``test`` (metrics in RecBole's spelling, such as ``recall@20``), times in
        seconds, memory in bytes, and what they come from: checksum of the data, split, seed, settings, versions.

    Raises:
        UsageError: something asked for does not exist or does not fit; nothing was trained then.
    """
    if serve:
        from recbole_signed.runs.serving_cost import run_warm_up

        run_warm_up(model, given_settings(make_config(model, dataset, config_files, overrides, seed)))
    reset_peak_memory()
    base_memory, _ = memory_bytes()
    config, data = configured_data(model, dataset, config_files, overrides, seed, cache, quiet=say is not None)
    if say is not None:
        announce_run(config, data, say)
        on_validation = _watched(config["valid_metric"], say, on_validation)
    with own_arguments_hidden():
        logger = getLogger()
        train_data, valid_data, test_data = data_preparation(config, data)
        data_hash = (cache or DataCache()).sha256(config)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        in_epochs = config["MODEL_TYPE"] != ModelType.TRADITIONAL
        is_trained = in_epochs and facts_of(config["model"]).trained_by_gradients
        refits = config["refit_for_test"] and test and not is_trained
        if refits:
            _check_refit(config)
        else:
            data = None  # its parts have rows of their own; of a hundred million these are 3 GB
        kind = get_model(config["model"])
        if in_epochs or not issubclass(kind, SignedRecommender):
            # the first optimizer of a process makes torch import its compiler, which is not part of any model
            torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])
        data_peak, at_rest = memory_bytes()[1], memory_at_rest()
        reset_peak_memory()
        init_seed(config["seed"] + config["local_rank"], config["reproducibility"])

        fitting, testing = _Spent(), _Spent()
        with fitting.counted():
            recommender = kind(config, train_data._dataset).to(config["device"])
        logger.info(recommender)
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, recommender)
        trainer.may_refit = True

        # traditional models are fitted in one pass: there is no better epoch to go back to
        checkpointed = save or (test and in_epochs)
        progress: dict[str, Any] = {"show_progress": config["show_progress"]}
        with own_checkpoint(trainer, config, keep=save):
            begun = time.process_time()

            def watch(epoch: int, score: float) -> None:
                assert on_validation is not None
                steps = getattr(trainer, "steps", (epoch + 1) * len(train_data))
                passed = round(steps / len(train_data), 4)
                on_validation(Validated(passed, float(score), steps, time.process_time() - begun))

            watched = {"callback_fn": watch} if on_validation is not None and in_epochs else {}
            with fitting.counted():
                _, valid = trainer.fit(train_data, valid_data, saved=checkpointed, **progress, **watched)
            fit_peak = memory_bytes()[1]
            trained = Path(trainer.saved_model_file).is_file()
            if refits:
                file = trainer.saved_model_file
                trainer.tensorboard.close()
                with fitting.counted():
                    trainer, test_data = refitted(config, data, recommender)
                trainer.saved_model_file, trained = file, False
                if checkpointed:
                    trainer._save_checkpoint(0, verbose=False)
            with recorded(trainer) as seen, testing.counted():
                # what was fitted in one pass is what the checkpoint holds: read again it would be there twice
                best = trained and in_epochs
                tested = trainer.evaluate(test_data, load_best_model=best, **progress) if test else {}
            # the kernel counts the size now and the peak in different ways
            peak_memory = max(base_memory, data_peak, memory_bytes()[1])
            served = _serve(trainer) if serve else {}
    if not tested and not valid and not holds_nothing_out(config["eval_args"]):
        if valid_data and config["eval_step"] > 1:
            raise UsageError(
                f"the training ended before its first validation, as eval_step is {config['eval_step']}; "
                f"set eval_step to 1 for {model}."
            )
        raise UsageError(f"the split leaves nothing of '{dataset}' for validation and test; look at eval_args.split.")
    per_user_sha256 = None if per_user is None else _keep_per_user(Path(per_user), seen, train_data._dataset)
    on_gpu = config["device"].type == "cuda"
    return RunRow(
        model=config["model"],
        dataset=config["dataset"],
        seed=int(config["seed"]),
        valid=plain_result(valid),
        test=plain_result(tested),
        **(_tested(seen, train_data._dataset) if test else {}),
        valid_metric=config["valid_metric"].lower(),
        fit_seconds=round(fitting.wall, 3),
        fit_cpu_seconds=round(fitting.cpu, 3),
        eval_seconds=round(testing.wall, 3) if test else None,
        peak_memory_bytes=peak_memory,
        base_memory_bytes=base_memory,
        fit_memory_bytes=max(0, fit_peak - at_rest),
        peak_gpu_memory_bytes=torch.cuda.max_memory_allocated() if on_gpu else None,
        **served,
        epochs=getattr(trainer, "epochs_begun", None) or len(getattr(trainer, "train_loss_dict", ())) or None,
        steps=getattr(trainer, "steps", None),
        settings_ranked=getattr(recommender, "settings_ranked", None),
        stopped_by=getattr(trainer, "stopped_by", None),
        curve=getattr(trainer, "curve", []),
        n_parameters=sum(parameter.numel() for parameter in recommender.parameters()),
        config_hash=config_hash(config.final_config_dict),
        data_sha256=data_hash,
        signed=config["signed"] is not None,
        data_version=data_version(Path(config["data_path"]), config["dataset"]),
        per_user=None if per_user is None else NO_VALUES if per_user_sha256 is None else str(per_user),
        per_user_sha256=per_user_sha256,
        settings=given_settings(config),
        split=split_of(config),
        protocol=config["protocol"] or "recbole",
        versions=versions(),
        device=torch.cuda.get_device_name() if on_gpu else "cpu",
        machine=machine(),
        threads=torch.get_num_threads(),
        timestamp=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def configured_data(
    model: str,
    dataset: str,
    config_files: Sequence[str | Path] = (),
    overrides: Mapping[str, Any] | None = None,
    seed: int | None = None,
    cache: DataCache | None = None,
    *,
    quiet: bool = False,
) -> tuple[Any, Any]:
    """Return RecBole's configuration and data set for a run: the random generators seeded, the logger set up."""
    config = make_config(model, dataset, config_files, overrides, seed)
    with own_arguments_hidden():
        init_seed(config["seed"], config["reproducibility"])
        init_logger(config)
        if quiet:
            quiet_log()
        getLogger().info(config)
        data = create_dataset(config) if cache is None else cache.read(config)
        getLogger().info(data)
    if config["eval_type"] == EvaluatorType.RANKING and max(config["topk"]) >= data.item_num:
        raise UsageError(
            f"topk is {max(config['topk'])}, but '{dataset}' has only {counted(data.item_num - 1, 'item')}; "
            f"set a smaller topk and valid_metric, or {argument('k')} of a trade-off."
        )
    return config, data


def announce_run(config: Any, data: Any, say: Callable[[str], None]) -> None:
    """Say what is run: the data, and the keys that were given and differ from the defaults."""
    signs = getattr(data, "sign_report", None)
    dislikes = "" if signs is None else f", {signs.dislikes:,} dislikes"
    say(
        f"{config['model']} on {config['dataset']}, seed {config['seed']}: {data.user_num - 1:,} users, "
        f"{data.item_num - 1:,} items, {data.inter_num:,} {'interactions' if signs is None else 'likes'}{dislikes}"
    )
    defaults = config.internal_config_dict
    changed = {key: value for key, value in given_settings(config).items() if defaults.get(key) != value}
    say(" ".join(as_word(key, value) for key, value in changed.items()) or "all parameters as by default")
    if config["features"] is not None and "features" not in defaults:
        say(f"{config['model']} reads no features.")


def _watched(
    metric: str, say: Callable[[str], None], further: Callable[[Validated], None] | None
) -> Callable[[Validated], None]:
    started = said = time.perf_counter()

    def on_validation(seen: Validated) -> None:
        nonlocal said
        now = time.perf_counter()
        if now - said >= _SAY_SECONDS:
            said = now
            say(f"epoch {seen.epoch:g}: {metric} {seen.score:.4f} on validation, {now - started:.0f} s")
        if further is not None:
            further(seen)

    return on_validation


def _serve(trainer: Any) -> dict[str, Any]:
    """Measure the checkpoint of the best epoch; one is made where there is none, after everything that is timed."""
    # RecBole's own modules are imported by then: this one would make a run that serves nothing larger
    from recbole_signed.runs.serving_cost import serve_in_new_process

    file = Path(trainer.saved_model_file)
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        trainer._save_checkpoint(0, verbose=False)
    return serve_in_new_process(file)


@contextmanager
def own_checkpoint(trainer: Any, config: Any, *, keep: bool) -> Iterator[None]:
    """Give the trainer's checkpoint a name that no other run has; afterwards remove it unless it is to be kept."""
    moment = datetime.now().strftime("%Y%m%d-%H%M%S")
    stem = f"{config['model']}-{config['dataset']}-{config['seed']}-{moment}-{os.getpid()}"
    names = (f"{stem}{end}.pth" for end in chain([""], (f"-{number}" for number in count(2))))  # one second, two runs
    paths = (os.path.join(config["checkpoint_dir"], name) for name in names)
    trainer.saved_model_file = next(path for path in paths if not os.path.exists(path))
    try:
        yield
    finally:
        trainer.tensorboard.close()
        if not keep:
            Path(trainer.saved_model_file).unlink(missing_ok=True)


def _keep_per_user(path: Path, seen: Recorded, data: Any) -> str | None:
    """Write the values per user and return the file's checksum; None where the evaluation has none."""
    values = seen.values()
    if not values:
        getLogger().warning(
            "%s is not kept: no metric of this evaluation is a mean over users, each ranked once.", path
        )
        return None
    return write(path, data.id2token(seen.user_field, seen.users()), values)


def _tested(seen: Recorded, trained_on: Any) -> dict[str, Any]:
    """Return of how many lists and users the test metrics are, and how many of the users have no training edge."""
    cases = seen.users()
    edges = [trained_on.inter_feat[seen.user_field].numpy()]
    if isinstance(trained_on, SignedDataset):  # the first like of a sequence has no row
        edges = [trained_on.liked_pairs()[0], trained_on.neg_feat[seen.user_field].numpy()]
    users = np.unique(cases)
    return {
        "test_cases": len(cases),
        "test_users": len(users),
        "test_new_users": int((~np.isin(users, np.concatenate(edges))).sum()),
    }


def plain_result(result: Mapping[str, Any] | None) -> dict[str, float | None]:
    """RecBole's result as floats of Python; None where a metric is not defined."""
    values = {key: float(value) for key, value in (result or {}).items()}
    return {key: value if math.isfinite(value) else None for key, value in values.items()}


class DataCache:
    """Keeps the data set that was read last, before its split, which shuffles it in place; each run gets a copy."""

    def __init__(self) -> None:
        self._key: str | None = None
        self._data: Any = None
        self._random: dict[str, Any] = {}
        self._vocabulary: Any = None
        self._checksums: dict[tuple[str, str], str] = {}

    def read(self, config: Any) -> Any:
        """Return the data set of a configuration; the random generators are left as they are after a reading."""
        names = [*argument_list.dataset_arguments, "model", "dataset", "data_path", "seed", "eval_args", "repeatable"]
        key = digest({name: config[name] for name in names})
        if key != self._key:
            self._data = None  # there is never room for two
            self._data = create_dataset(config)
            self._key, self._random, self._vocabulary = key, rng_state(), config[VOCABULARY]
        else:
            set_rng_state(self._random)
        # the copy refers to the new configuration in every place where the original refers to its own
        data = copy.deepcopy(self._data, {id(self._data.config): config})
        config[VOCABULARY] = self._vocabulary
        return data

    def sha256(self, config: Any) -> str:
        """Return the checksum of the data set's files, see :func:`~recbole_signed.runs.data_sha256`."""
        place = (str(config["data_path"]), str(config["dataset"]))
        if place not in self._checksums:
            self._checksums[place] = data_sha256(Path(place[0]), place[1])
        return self._checksums[place]


# ---- the fit to training and validation part together ----

HISTORIES = "histories"


def _check_refit(config: Any) -> None:
    """Refuse a refit that would not be fair, or is not known, before anything is fitted."""
    if config["refit_for_test"] not in (True, HISTORIES):
        raise UsageError(f"refit_for_test is {config['refit_for_test']!r}; give true, false or {HISTORIES}.")
    if config["eval_args"]["split"] != {"LS": "valid_and_test"}:
        raise UsageError(
            f"refit_for_test needs the split {{LS: valid_and_test}}, but it is {config['eval_args']['split']}."
        )
    if config["dislike_split"] != "time":
        raise UsageError(
            "refit_for_test needs 'dislike_split: time' and the order TO; else models hide unequal items in the test."
        )


def refitted(config: Any, data: Any, model: Any) -> tuple[Any, Any]:
    """Fit a model without gradients to the training and validation part together, with the parameters that were chosen.

    A sequential model reads the validation like as the last event before the test's; without this, a model that is
    fitted to a graph would not know of it. With ``refit_for_test: histories`` nothing is fitted again: the model ranks
    by the users' histories with the validation like. Returns the trainer with the model, and the test loader.
    """
    again = copy.copy(config)
    again.final_config_dict = {
        **config.final_config_dict,
        "eval_args": {**config["eval_args"], "split": {"LS": "test_only"}},
        "epochs": 1,  # of a closed form that RecBole runs in epochs (NCEPLRec) the constructor is the fit
        **({"auto": False, **model.chosen} if hasattr(model, "chosen") else {}),
    }
    init_seed(again["seed"], again["reproducibility"])
    train_data, _, test_data = data_preparation(again, copy.deepcopy(data, {id(data.config): again}))
    if config["refit_for_test"] == HISTORIES:
        _read_histories(model, train_data._dataset)
        return get_trainer(again["MODEL_TYPE"], again["model"])(again, model), test_data
    init_seed(again["seed"], again["reproducibility"])
    fitted = get_model(again["model"])(again, train_data._dataset).to(again["device"])
    trainer = get_trainer(again["MODEL_TYPE"], again["model"])(again, fitted)
    trainer.may_refit = True
    trainer.fit(train_data, None, saved=False, show_progress=again["show_progress"])
    return trainer, test_data


def _read_histories(model: Any, dataset: Any) -> None:
    """Let a fitted model rank by the histories of users in another data set; Pop and Random read none."""
    name = type(model).__name__
    if isinstance(model, SignedRecommender):
        model.read_histories(dataset)
    elif name == "EASE":
        model.interaction_matrix = dataset.inter_matrix(form="csr").astype(np.float32)
    elif name not in ("Pop", "Random"):
        raise UsageError(f"refit_for_test: {HISTORIES} is not known for {name}; set it to true or leave it out.")
