"""The trainer of this package's models: exact resumption, a budget of time, and models that are fitted in one pass."""

from __future__ import annotations

import random
import time
from typing import Any

import numpy as np
import torch
from recbole.trainer import Trainer
from recbole.utils import ModelType

from recbole_signed.compat import CHECKPOINT_PICKLE, VOCABULARY, refuse_other_formats
from recbole_signed.errors import UsageError
from recbole_signed.trainer.checkpoint_growth import (
    check_vocabulary,
    grown_optimizer,
    grown_parameters,
)


class _BudgetSpentError(Exception):
    """Ends RecBole's loop over epochs."""


class SignedTrainer(Trainer):
    """RecBole's ``Trainer``, in which

    * a checkpoint holds the states of the random generators: training that goes on from it
      (:meth:`resume_checkpoint`, or ``resume: FILE`` in the configuration) gives what it would have given without
      the interruption. It holds a hash of the vocabulary too: one of other users or items is refused, and where the
      data has grown at its end, so do the tables;
    * ``training_budget`` (seconds, 0: none) ends the training after the epoch that spent it, which is validated, where
      early stopping would not yet; :attr:`stopped_by` then is ``"budget"``;
    * ``lr_milestones`` (epochs) and ``lr_gamma`` lower the learning rate by steps;
    * a model of the type ``TRADITIONAL`` has a ``fit()``, called once instead of a pass over batches.

    Attributes:
        curve: ``[epoch, valid score]`` of each validation, epochs from 1.
        stopped_by: ``"epochs"``, ``"early stopping"`` or ``"budget"``; None before the end.
    """

    best_valid_score: Any
    best_valid_result: Any

    def __init__(self, config: Any, model: Any) -> None:
        super().__init__(config, model)
        self.one_pass = model.type == ModelType.TRADITIONAL
        if self.one_pass:
            self.epochs = 1
            self.eval_step: int = min(config["eval_step"], 1)
        self.budget = float(config["training_budget"] or 0.0)
        self.curve: list[list[float]] = []
        self.stopped_by: str | None = None
        self._epoch = -1
        self._deadline = np.inf
        self._dataset: Any = None
        self._resumed: dict[str, Any] | None = None
        if config["resume"]:
            self.resume_checkpoint(config["resume"])

    def fit(
        self, train_data: Any, valid_data: Any = None, verbose: bool = True, saved: bool = True, **kwargs: Any
    ) -> Any:
        """Train as RecBole does; return the best validation score and its result.

        Raises:
            UsageError: it was to go on from a checkpoint of other users or items.
        """
        self._dataset = train_data._dataset
        if self._resumed:
            check_vocabulary(self._resumed, self._dataset, self.saved_model_file)
        self._deadline = time.perf_counter() + self.budget if self.budget else np.inf
        try:
            result = super().fit(train_data, valid_data, verbose, saved, **kwargs)
        except _BudgetSpentError:
            return self._end_early(valid_data, saved)
        self.stopped_by = "epochs" if self._epoch + 1 >= self.epochs else "early stopping"
        return result

    def _end_early(self, valid_data: Any, saved: bool) -> tuple[float, Any]:
        """Validate the last epoch where that has not been done, and keep it if it is the best."""
        self.stopped_by = "budget"
        self.logger.warning(
            f"The training_budget of {self.budget:g} s was spent after epoch {self._epoch + 1} of {self.epochs}."
        )
        if valid_data and (not self.curve or self.curve[-1][0] != self._epoch + 1):
            score, result = self._valid_epoch(valid_data)
            if self.best_valid_result is None or (score > self.best_valid_score) == bool(self.valid_metric_bigger):
                self.best_valid_score, self.best_valid_result = score, result
                if saved:
                    self._save_checkpoint(self._epoch)
        return self.best_valid_score, self.best_valid_result

    def _train_epoch(self, train_data: Any, epoch_idx: int, *args: Any, **kwargs: Any) -> Any:
        if time.perf_counter() > self._deadline and epoch_idx > self.start_epoch:
            raise _BudgetSpentError
        self._epoch = epoch_idx
        if self.one_pass:
            self.model.train()
            self.model.fit()
            return 0.0
        self._set_learning_rate(epoch_idx)
        if hasattr(train_data, "set_epoch"):
            train_data.set_epoch(epoch_idx)
        if hasattr(self.model, "start_epoch"):
            self.model.start_epoch(epoch_idx)
        return super()._train_epoch(train_data, epoch_idx, *args, **kwargs)

    def _set_learning_rate(self, epoch: int) -> None:
        milestones = self.config["lr_milestones"]
        if milestones:
            passed = sum(epoch >= each for each in milestones)
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate * float(self.config["lr_gamma"] or 1.0) ** passed

    def _valid_epoch(self, *args: Any, **kwargs: Any) -> Any:
        score, result = super()._valid_epoch(*args, **kwargs)
        self.curve.append([self._epoch + 1, float(score)])
        return score, result

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        if not self.config["single_spec"] and self.config["local_rank"] != 0:
            return
        path = kwargs.pop("saved_model_file", self.saved_model_file)
        state = {
            "config": self.config,
            "epoch": epoch,
            "cur_step": self.cur_step,
            "best_valid_score": self.best_valid_score,
            "best_valid_result": self.best_valid_result,
            "state_dict": self.model.state_dict(),
            "other_parameter": self.model.other_parameter(),
            "optimizer": self.optimizer.state_dict(),
            "curve": self.curve,
            "rng": rng_state(),
        }
        torch.save(state, path, pickle_protocol=4)
        if verbose:
            self.logger.info(f"Saving current: {path}")

    def resume_checkpoint(self, resume_file: Any) -> None:
        """Go on from a checkpoint: parameters, optimizer, best score, curve and random generators.

        Raises:
            UsageError: it is one of another model.
        """
        refuse_other_formats(resume_file)
        state = torch.load(resume_file, map_location="cpu", weights_only=False, pickle_module=CHECKPOINT_PICKLE)
        if state["config"]["model"] != self.config["model"]:
            raise UsageError(
                f"{resume_file} is a checkpoint of {state['config']['model']}, and {self.config['model']} is to go on."
            )
        self.saved_model_file = str(resume_file)
        self.start_epoch = state["epoch"] + 1
        self.cur_step, self.best_valid_score = state["cur_step"], state["best_valid_score"]
        self.model.load_state_dict(grown_parameters(state["state_dict"], self.model.state_dict()))
        self.model.load_other_parameter(state.get("other_parameter"))
        self.optimizer.load_state_dict(grown_optimizer(state["optimizer"], list(self.model.parameters())))
        self._resumed = state.get(VOCABULARY) or state["config"][VOCABULARY]  # older versions had it beside
        self.best_valid_result = state.get("best_valid_result")
        self.curve = [list(each) for each in state.get("curve", [])]
        if "rng" in state:
            set_rng_state(state["rng"])


def rng_state() -> dict[str, Any]:
    """Return the states of the random generators that a training draws from, without pickled classes."""
    state: Any = np.random.get_state()  # noqa: NPY002 (RecBole and the models draw from it)
    name, keys, position, has_gauss, gauss = state
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [str(name), torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(gauss)],
        "python": random.getstate(),
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Put the random generators into the states of :func:`rng_state`."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    random.setstate(state["python"])
