"""Runs a stream: predict a window with every arm, then let each learn from it in its own way."""

from __future__ import annotations

import copy
import itertools
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from tqdm import tqdm

from recbole_signed import __version__
from recbole_signed.convert.sources.movielens import ensure_ml100k
from recbole_signed.errors import UsageError, ending
from recbole_signed.files import path_of
from recbole_signed.live.learners import make_learner
from recbole_signed.live.learners.ranking import best_items
from recbole_signed.live.replay import summarise
from recbole_signed.live.replay.arms import Arm, case_table, chosen_learner, run_by_event
from recbole_signed.live.replay.stream_spec import POP, StreamSpec
from recbole_signed.live.replay.windows import Cases, Replay, is_finished, told, write_window
from recbole_signed.live.store.edges import EdgeState
from recbole_signed.live.store.results import Update
from recbole_signed.live.store.state import OnlineState
from recbole_signed.plugin.assignments import RUNS, yaml_if_there
from recbole_signed.plugin.configuration import DATA_ROOT, ML_100K_SIGNED, check_dataset_name, dataset_names
from recbole_signed.runs import data_sha256
from recbole_signed.runs.provenance import digest, machine, versions

TOP = 20


def run_stream(spec: StreamSpec, folder: Path, work: Path, *, progress: bool = True) -> Path:
    """Run an experiment, or what is left of it, and return the folder of its results; finished windows are kept."""
    settings = yaml_if_there(folder / f"{folder.name}.yaml")
    data = data_sha256(folder, spec.dataset)
    state_of = digest([spec.hash(), data, settings, __version__])
    out = work / f"{spec.path.stem}-{state_of[:12]}"
    replay = Replay.read(folder, spec.cut, spec.windows, spec.sign_rule, spec.max_windows)
    out.mkdir(parents=True, exist_ok=True)
    files = [out / f"window-{number:03d}.parquet" for number in range(len(replay))]
    missing = [number for number, file in enumerate(files) if not is_finished(file)]
    if not missing:
        return out
    made = {"data_sha256": data, "versions": versions(), "machine": machine(), "threads": torch.get_num_threads()}
    if spec.freshness:
        run_by_event(spec, replay, files, folder, out, made, progress=progress)
        return out
    with tempfile.TemporaryDirectory() as temporary, OnlineState.open(Path(temporary) / "state") as state:
        replay.start(state)
        n_base = state.edges.n_users
        arms = _arms(spec, state, out, folder)
        bar = tqdm(range(len(replay)), desc=spec.title, unit="window", disable=not progress, file=sys.stderr)
        for number in bar:
            window, path, done = replay.window(number), files[number], number not in missing
            if not done:
                bar.set_postfix_str("predicting")
                cases = Cases.of(state, window, n_base)
                variants = [variant for each in arms for variant in each.variants()]
                table = pl.concat(case_table(spec, arm, state.edges, cases, state.edges.n_items) for arm in variants)
            bar.set_postfix_str("learning")
            times = _learn(spec, arms, state, window)
            times.update(_renew(arms, state, open_=[each - number for each in missing if each > number]))
            if not done:
                write_window(path, table, times, window, made)
    return out


def _arms(spec: StreamSpec, state: OnlineState, out: Path, folder: Path) -> list[Arm]:
    features = told(spec.models, folder, state)
    base, sizes = state.edges.export(), (state.edges.n_users, state.edges.n_items)
    arms, chosen = [], {}
    for model in spec.models:
        started = time.perf_counter()
        learner, chosen[model.label] = chosen_learner(model, state, spec.seed, features.get(model.label))
        if model.aversions and not hasattr(learner, "with_aversion"):
            raise UsageError(f"{model.model} has no dislike_aversion to vary; leave out 'aversions'.")
        seconds = time.perf_counter() - started
        for kind in model.arms:
            aversions = model.aversions if kind == "online" else ()
            arm = Arm(model.label, model.model, kind, copy.deepcopy(learner), aversions=aversions)
            arm.log["fit_seconds"] = seconds
            if kind == "none":
                arm.frozen = EdgeState.from_tensors(copy.deepcopy(state.edges.to_tensors()), sizes[1])
            arm.learner.attach(arm.frozen or state.edges)
            arms.append(arm)
    popular = make_learner("Pop")
    popular.dislike_strength = 0.0  # the baseline is popularity alone
    popular.fit(base, *sizes)
    arms.append(Arm("Pop", "Pop", POP, popular))
    (out / "settings.json").write_text(json.dumps(chosen, indent=1), encoding="utf-8")
    return arms


def _learn(spec: StreamSpec, arms: list[Arm], state: OnlineState, window: Any) -> dict[str, Any]:
    """Take the window in: its first events one by one with the clock running, the rest in batches."""
    timed = min(spec.timed_events, len(window))
    latency: dict[str, list[float]] = {arm.label: [] for arm in arms if arm.kind == "online"}
    busy = dict.fromkeys(latency, 0.0)
    for first, last in itertools.pairwise([*range(timed), *range(timed, len(window), spec.batch), len(window)]):
        started = time.perf_counter()
        update = state.ingest(window[first:last])
        durable = time.perf_counter() - started
        for arm in (each for each in arms if each.kind in ("fold-in", "online", POP)):
            before = time.perf_counter()
            arm.learner.update(state.edges, update.changes)
            if arm.kind == "online" and first < timed:
                _top(arm, state, update)
                latency[arm.label].append(durable + time.perf_counter() - before)
            elif arm.kind == "online":
                busy[arm.label] += time.perf_counter() - before
    return {"latency_seconds": latency, "update_seconds": busy}


def _top(arm: Arm, state: OnlineState, update: Update) -> None:
    """Make the new list of the user of the event."""
    users = update.changes.users.astype(np.int64)
    if not len(users):
        return
    best_items(arm.learner, state.edges, int(users[0]), TOP, state.items.keys, user_keys=state.users.keys)


def _renew(arms: list[Arm], state: OnlineState, *, open_: list[int]) -> dict[str, Any]:
    """Refresh the online arms, and fit the others from scratch where one of the windows ``open_`` ahead looks at it."""
    edges = state.edges.export()
    sizes = state.edges.n_users, state.edges.n_items
    refreshing, staleness, fitting = {}, {}, {}
    for arm in arms:
        started = time.perf_counter()
        if arm.kind == "online":
            found = arm.learner.refresh(edges, *sizes)
            arm.learner.attach(state.edges)
            refreshing[arm.label], staleness[arm.label] = time.perf_counter() - started, found.staleness
        elif arm.kind == "refit" and (1 in open_ or (open_ and arm.learner.remembers)):
            arm.learner.fit(edges, *sizes)
            arm.learner.attach(state.edges)
            fitting[arm.label] = time.perf_counter() - started
    return {"refresh_seconds": refreshing, "staleness": staleness, "refit_seconds": fitting}


def replay(file: Path | str, data_path: Path | str = DATA_ROOT) -> dict[str, Any]:
    """Compare online updates with retraining on a stream: predict a window, then learn from it, and so on.

    Windows that an earlier call has finished are not run again; they are in ``runs/online/`` of the current folder.

    Args:
        file: yaml file of the replay, as those under ``yaml/online/``.
        data_path: folder of the data sets.

    Returns:
        The figures: ``windows`` (a row per window and arm), ``pooled`` (a row per subset and arm, with retention),
        ``gate``, ``cost`` and ``settings`` by model.

    Raises:
        UsageError: the file asks for something that does not exist, or the data set is not there.
    """
    spec = StreamSpec.read(path_of(file, "file"))
    return summarise(run_stream(spec, _folder(spec, path_of(data_path, "data_path")), Path(RUNS) / "online"))


def _folder(spec: StreamSpec, data_path: Path) -> Path:
    check_dataset_name(spec.dataset)
    folder = data_path / spec.dataset
    if not folder.is_dir():
        if spec.dataset != ML_100K_SIGNED:
            hint = ending(spec.dataset, dataset_names(data_path))
            has_head = spec.path.read_text(encoding="utf-8").startswith("#")  # as those of this repository have
            how = f"{spec.path} says how to make it" if has_head else "'recbole-signed convert' makes one"
            raise UsageError(f"there is no data set '{spec.dataset}' in {data_path} ({how}){hint}")
        ensure_ml100k(data_path)
    return folder
