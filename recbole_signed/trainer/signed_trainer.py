"""The trainer of this package's models: exact resumption, budgets in steps and CPU time, models without gradients."""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from recbole.trainer import Trainer
from recbole.utils import ModelType

from recbole_signed.compat.checkpoint import VOCABULARY
from recbole_signed.data.dataloader import SignedFullSortEvalDataLoader
from recbole_signed.errors import UsageError
from recbole_signed.model import SignedRecommender
from recbole_signed.trainer.checkpoints import (
    check_vocabulary,
    grown_optimizer,
    grown_parameters,
    read_checkpoint,
    rng_state,
    set_loader_state,
    set_rng_state,
    set_training_state,
    states_in,
    vocabulary_of,
    without_layers,
)


class _BudgetSpentError(Exception):
    """Ends RecBole's loop over epochs."""


class _Round:
    """The batches up to the next validation, in the place of RecBole's loader; a step of the optimizer for each."""

    def __init__(self, loader: Any, batches: Iterable[Any], n_batches: int) -> None:
        self._loader, self._batches, self._n_batches = loader, batches, n_batches

    def __len__(self) -> int:
        return self._n_batches

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batches)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


class _NoOptimizer:
    """Stands where RecBole has an optimizer, for a model without gradients: torch's own imports its compiler (1 s)."""

    param_groups: ClassVar[list[dict[str, Any]]] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the state of an optimizer without parameters."""
        return {"state": {}, "param_groups": []}

    def load_state_dict(self, _state: dict[str, Any]) -> None:
        """Take nothing over."""


class SignedTrainer(Trainer):
    """RecBole's ``Trainer``, in which

    * a checkpoint holds the states of the random generators, so that training that goes on from it gives what it would
      have given, and a hash of the vocabulary: one of other users or items is refused;
    * ``eval_every_steps`` (steps of the optimizer, 0: none) is the distance of two validations, in the place of
      RecBole's ``eval_step`` in epochs. ``stopping_step`` counts validations in both cases, ``epochs`` whole passes;
    * ``training_budget`` (CPU seconds of this process since the start of :meth:`fit`, validations included; 0: none)
      and ``max_steps`` (0: none) end the training; the last state is validated, :attr:`stopped_by` is ``"budget"``;
    * ``lr_milestones`` (steps of the optimizer) and ``lr_gamma`` lower the learning rate;
    * a model of the type ``TRADITIONAL`` has a ``fit()``, called once instead of a pass over batches;
    * ``enable_amp`` has no effect on a :class:`~recbole_signed.model.SignedRecommender`, and a warning says so.
    """

    resumes = True  # whether `resume` gives the training that would have been
    best_valid_score: Any
    best_valid_result: Any
    enable_amp: Any
    saved_model_file: Any
    start_epoch: Any
    cur_step: Any

    def __init__(self, config: Any, model: Any) -> None:
        super().__init__(config, model)
        self.one_pass = model.type == ModelType.TRADITIONAL
        if self.one_pass:
            self.epochs = 1
            self.eval_step: int = min(config["eval_step"], 1)
        elif self.enable_amp and isinstance(model, SignedRecommender):
            self.enable_amp = False
            self.logger.warning(
                f"enable_amp has no effect on {config['model']}: its products of sparse matrices are in float32 alone."
            )
        self.passes = int(self.epochs)
        self.budget = float(config["training_budget"] or 0.0)
        self.every, self.max_steps = (_whole_number(config, key) for key in ("eval_every_steps", "max_steps"))
        self.curve: list[list[float]] = []  # `[epoch, valid score]` of each validation; passes are not always whole
        self.steps = 0  # of the optimizer, those before a resumption included
        self.stopped_by: str | None = None  # "epochs", "early stopping" or "budget"; None before the end
        self._round = -1
        self._started_at = time.process_time()
        self._dataset: Any = None
        self._pass_length, self._place = 1, (0, 0)
        self._pass_rng: dict[str, Any] | None = None
        self._states: dict[str, Any] | None = None
        self._batches: Iterator[Any] = iter(())
        self._resumed: dict[str, Any] | None = None
        self._resumed_file = ""
        self._last_result: Any = None
        if config["resume"]:
            self.resume_checkpoint(config["resume"])

    @property
    def cpu_seconds(self) -> float:
        """Processor time of this process, over all threads, since the start of :meth:`fit`."""
        return time.process_time() - self._started_at

    def fit(
        self, train_data: Any, valid_data: Any = None, verbose: bool = True, saved: bool = True, **kwargs: Any
    ) -> Any:
        """Train as RecBole does; return the best validation score and its result."""
        self._dataset = train_data._dataset
        grown = False
        if self._resumed:
            check_vocabulary(self._resumed, self._dataset, self._resumed_file)
            grown = self._resumed != vocabulary_of(self._dataset)
        if grown:  # a score on other data is no measure
            self.best_valid_score, self.best_valid_result = -math.inf if self.valid_metric_bigger else math.inf, None
        elif self._resumed and valid_data and not self.best_valid_result and math.isfinite(self.best_valid_score):
            # RecBole's own trainer keeps the score of the best state, which is the resumed one, and not its result
            here = rng_state(None)
            self.eval_collector.data_collect(train_data)
            self.best_valid_result = super()._valid_epoch(valid_data)[1]
            set_rng_state(here)
        if self._states and not self.one_pass:
            set_loader_state(self._states, train_data)
        if not self.one_pass:
            self._plan_rounds(train_data)
        if self._states and saved and not grown and self.saved_model_file != self._resumed_file:
            self.recbole_signed_loader = train_data
            self._save_checkpoint(self.start_epoch - 1, verbose=False)  # it stays the best where nothing better comes
        self._started_at = time.process_time()
        try:
            result = super().fit(train_data, valid_data, verbose, saved, **kwargs)
        except _BudgetSpentError:
            return self._end_early(valid_data, saved)
        out_of_patience = self._round + 1 < self.epochs or self.cur_step > self.stopping_step  # in the last round, too
        if self._are_steps_spent and self.steps < self.passes * self._pass_length and not out_of_patience:
            return self._end_early(valid_data, saved)  # within the last round, after which nothing asks
        self.stopped_by = "early stopping" if out_of_patience else "epochs"
        return result

    def _build_optimizer(self, **kwargs: Any) -> Any:
        return _NoOptimizer() if self.model.type == ModelType.TRADITIONAL else super()._build_optimizer(**kwargs)

    def _plan_rounds(self, train_data: Any) -> None:
        """Let RecBole's epochs be the rounds that are left."""
        length = self._pass_length = max(len(train_data), 1)
        done, within = self._place
        self.steps = done * length + min(within, length - 1)
        left = max(self.passes * length - self.steps, 0)
        self.epochs = self.start_epoch - (-left // (self.every or length))
        if self.every:
            self.eval_step = 1
        self._batches = self._all_batches(train_data)

    def _end_early(self, valid_data: Any, saved: bool) -> tuple[float, Any]:
        """Validate the last state where that has not been done, and keep it if it is the best."""
        self.stopped_by = "budget"
        limits = {"training_budget": f"{self.budget:g} CPU s", "max_steps": f"{self.max_steps} steps"}
        spent = "max_steps" if self._are_steps_spent else "training_budget"
        self.logger.warning(
            f"The {spent} of {limits[spent]} was spent after step {self.steps} (epoch {self._epoch:g} of "
            f"{self.passes})."
        )
        if valid_data and (not self.curve or self.curve[-1][0] != self._epoch):
            score, result = self._valid_epoch(valid_data)
            best = self.best_valid_score
            better = score > best if self.valid_metric_bigger else score < best
            if better or not math.isfinite(best):
                self.best_valid_score, self.best_valid_result = score, result
                if saved:
                    self._save_checkpoint(self._round)
        return self.best_valid_score, self.best_valid_result

    @property
    def _epoch(self) -> float:
        """Passes over the training data so far."""
        return 1 if self.one_pass else round(self.steps / self._pass_length, 4)

    @property
    def epochs_begun(self) -> int:
        """Passes over the training data that were begun; 0: before the training."""
        return len(self.train_loss_dict) if self.one_pass else -(-self.steps // self._pass_length)

    @property
    def _are_steps_spent(self) -> bool:
        return bool(self.max_steps) and self.steps >= self.max_steps

    @property
    def _is_time_spent(self) -> bool:
        return bool(self.budget) and self.cpu_seconds > self.budget

    def _train_epoch(self, train_data: Any, epoch_idx: int, *args: Any, **kwargs: Any) -> Any:
        """Train for a round: RecBole's epoch, or ``eval_every_steps`` steps."""
        if self._are_steps_spent or (epoch_idx > self.start_epoch and self._is_time_spent):
            raise _BudgetSpentError
        self._round = epoch_idx
        if self.one_pass:
            self.model.train()
            self.model.fit()
            return 0.0
        length = self._pass_length
        n_steps = min(
            self.every or length - self.steps % length,
            self.passes * length - self.steps,
            (self.max_steps or sys.maxsize) - self.steps,
        )
        batches = _Round(train_data, itertools.islice(self._batches, n_steps), n_steps)
        return super()._train_epoch(batches, epoch_idx, *args, **kwargs)

    def _all_batches(self, train_data: Any) -> Iterator[Any]:
        """Yield the batches of all passes that are left, with the learning rate set; skip what a resumed pass had."""
        begun = self.steps
        first, done = divmod(self.steps, self._pass_length)
        for number in range(first, self.passes):
            here = rng_state(train_data)
            if done and self._pass_rng is not None:
                set_rng_state(self._pass_rng, train_data)
            self._pass_rng = rng_state(train_data)
            if hasattr(train_data, "set_epoch"):
                train_data.set_epoch(number)
            if hasattr(self.model, "start_epoch"):
                self.model.start_epoch(number)
            batches = iter(train_data)
            if done:
                next(itertools.islice(batches, done - 1, None), None)
                set_rng_state(here, train_data)
                done = 0
            for batch in batches:
                if self.steps > begun and self._is_time_spent:
                    raise _BudgetSpentError
                self._set_learning_rate()
                self.steps += 1
                yield batch

    def _set_learning_rate(self) -> None:
        if self.config["lr_milestones"]:
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(self.config, self.steps)

    def _valid_epoch(self, *args: Any, **kwargs: Any) -> Any:
        score, result = super()._valid_epoch(*args, **kwargs)
        self.curve.append([self._epoch, float(score)])
        self._last_result = result
        return score, result

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        extra = {
            # the best validation is the last one then; RecBole notes its result after it has saved
            "best_valid_result": self._last_result or self.best_valid_result,
            "curve": self.curve,
            "place": divmod(self.steps, self._pass_length),
            "pass_rng": self._pass_rng,
        }
        # of a training that is at its end already RecBole saves epoch -1, from which a later one would count its epochs
        super()._save_checkpoint(max(epoch, self.start_epoch - 1), verbose, extra=extra, **kwargs)

    def resume_checkpoint(self, resume_file: Any) -> None:
        """Go on from a checkpoint of these settings: parameters, optimizer, best score, curve and random generators."""
        state = read_checkpoint(resume_file)
        if state["config"]["model"] != self.config["model"]:
            raise UsageError(
                f"{resume_file} is a checkpoint of {state['config']['model']}, and {self.config['model']} is to go on."
            )
        self.saved_model_file = self._resumed_file = str(resume_file)
        self.start_epoch, self._round = state["epoch"] + 1, state["epoch"]
        self.cur_step, self.best_valid_score = state["cur_step"], state["best_valid_score"]
        try:
            self.model.load_state_dict(grown_parameters(state["state_dict"], self.model.state_dict()))
        except RuntimeError as error:
            raise UsageError(
                f"{resume_file} holds parameters of other sizes than {self.config['model']} has now; give it the "
                "settings with which it was trained."
            ) from error
        self.model.load_other_parameter(without_layers(state.get("other_parameter")))
        set_training_state(state.get("changed_in_training", {}), self.model)
        self.optimizer.load_state_dict(grown_optimizer(state["optimizer"], list(self.model.parameters())))
        self._resumed = state.get(VOCABULARY) or state["config"][VOCABULARY]  # older versions had it beside
        self.best_valid_result = state.get("best_valid_result")
        self.curve = [list(point) for point in state.get("curve", [])]
        self._place = tuple(state.get("place", (self.start_epoch, 0)))
        self._pass_rng = state.get("pass_rng")
        self._states = states_in(state, resume_file)
        set_rng_state(self._states)


class SSFTrainer(SignedTrainer):
    """Lets a model of the SSF family choose its parameters on validation, and fits it once."""

    def fit(self, train_data: Any, valid_data: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Tune on ``valid_data`` where the model is ``auto``, then fit, validate and save as RecBole does."""
        if self.model.auto and self.start_epoch < self.epochs:
            if valid_data:
                self.model.tune(self._ranking(valid_data))
            else:
                self.logger.warning("There is no validation part to choose parameters on: the configured ones hold.")
        return super().fit(train_data, valid_data, *args, **kwargs)

    def _train_epoch(self, *args: Any, **kwargs: Any) -> Any:
        """Fit, then choose what the fit leaves open."""
        result = super()._train_epoch(*args, **kwargs)
        self.model.spend()
        return result

    def _ranking(self, valid_data: Any) -> SignedFullSortEvalDataLoader:
        """Rank all items even where RecBole's evaluation ranks sampled ones."""
        if isinstance(valid_data, SignedFullSortEvalDataLoader):
            return valid_data
        return SignedFullSortEvalDataLoader(self.config, valid_data._dataset, None)


def learning_rate(config: Any, step: float) -> float:
    """Return the learning rate of a step: ``learning_rate`` times ``lr_gamma`` for each of ``lr_milestones`` before."""
    passed = sum(step >= milestone for milestone in config["lr_milestones"] or ())
    return float(config["learning_rate"]) * float(config["lr_gamma"] or 1.0) ** passed


def _whole_number(config: Any, key: str) -> int:
    """Return a number of steps; 0 where it is not set."""
    value = config[key] or 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UsageError(f"{key} is {value!r}; it must be a whole number of optimiser steps, or 0 for none.")
    return value
