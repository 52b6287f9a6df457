"""``fit``: a model by name, fitted to everything that is known."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from recbole.data import create_dataset, data_preparation
from recbole.utils import ModelType, get_model, get_trainer, init_seed

from recbole_signed.api.interactions import Interactions
from recbole_signed.api.model_parts import UserSequences
from recbole_signed.api.recommender import Recommender
from recbole_signed.compat.log import each_warning_once, no_training_curves, own_arguments_hidden
from recbole_signed.errors import UsageError
from recbole_signed.evaluation.valid_metric import split_length
from recbole_signed.files import is_plain_name
from recbole_signed.plugin import make_config
from recbole_signed.plugin.configuration import has_interactions, unknown_dataset_error
from recbole_signed.progress import Say, report_progress
from recbole_signed.trainer.checkpoints import remember_vocabulary

EVERYTHING = (1, 0, 0)  # ratios of a split that holds nothing out
TOPK = 20  # length of the ranking by which open choices are made
_OWN_KEYS = {
    "model": "it is the first argument of fit",
    "dataset": "it is the second argument of fit",
    "data_path": "give the folder of the data set as the second argument of fit",
    "eval_args": "fit holds nothing out at the end, and valid= sets the share that open choices are made on",
    "checkpoint_dir": "fit writes no files; save() of the fitted model does",
    "resume": "fit starts from nothing",
}


@each_warning_once()
def fit(
    model: str,
    data: Interactions | str | Path,
    *,
    valid: float = 0.1,
    seed: int | None = None,
    progress: bool | None = None,
    **parameters: Any,
) -> Recommender:
    """Fit a model to all interactions; nothing is held out of the model that is returned.

    What the parameters leave open is chosen first, on a held-out share of each user's likes: the parameters of SSF,
    SSF-L and SSF-T that were not given (unless ``auto=False``), and the number of epochs of a model that is trained by
    gradients (unless ``epochs`` or ``max_steps`` is given). The share is drawn at random; sequential models have the
    last likes of each user held out, and SSF-T the last likes of all, where the data has times. Then the model is
    fitted again, to everything. A model with nothing open is fitted once.

    Args:
        model: name of any registered model, or of one of RecBole's own (``recbole-signed models`` lists them).
        data: interactions from :func:`~recbole_signed.from_frame`, or the name or folder of a data set.
        valid: share of the likes that open choices are made on, at least 0 and below 1; 0: nothing is chosen, the
            parameters hold as they are given or preset. A data set that is split already keeps its validation part.
        seed: of the split and of the start of a training.
        progress: what is said on standard error: what the fit is at, once it takes over three seconds (None); a bar for
            each epoch (True); nothing (False).
        parameters: of the model and its training, under the names of RecBole's configuration keys, such as
            ``embedding_size=64``, ``learning_rate=0.002``, ``dislike_aversion=0.5``. What is given here always holds.
            ``valid_metric`` is what choices are made by, NDCG@20 if not given; ``valid_metric="SignedNDCG@20",
            signed_gamma=2`` is one that counts dislikes.

    Returns:
        The fitted model.

    Raises:
        UsageError: a model, data set, parameter or value that does not exist or does not fit; a training that diverges.

    Example:
        >>> model = rs.fit("SSF", data)  # doctest: +SKIP
        >>> model = rs.fit("LightGCN", "ml-100k-signed", epochs=50, n_layers=2)  # doctest: +SKIP
    """
    if isinstance(valid, bool) or not isinstance(valid, Real) or not 0 <= valid < 1:
        raise UsageError(f"valid is {valid!r}; give the share of the likes to choose on, at least 0 and below 1.")
    for key, reason in _OWN_KEYS.items():
        if key in parameters:
            raise UsageError(f"fit takes no {key}=: {reason}.")
    with (
        tempfile.TemporaryDirectory(prefix="recbole-signed-") as scratch,
        no_training_curves(),
        report_progress(f"fit of {model}", shown=progress is None) as say,
    ):
        maker = _Maker(model, data, seed, bool(progress), scratch, parameters, say)
        chosen = maker.chosen(float(valid)) if valid else {}
        return maker.fitted(chosen)


class _Maker:
    """Reads the data once, and trains a model on it with one configuration or another."""

    def __init__(
        self,
        model: str,
        data: Interactions | str | Path,
        seed: int | None,
        progress: bool,
        scratch: str,
        parameters: Mapping[str, Any],
        say: Say,
    ) -> None:
        self.model, self.kept = model, data
        self.name, place = data_place(data, parameters.get("features"))
        self.seed, self.parameters, self.say = seed, parameters, say
        self.quiet = {"show_progress": progress, "checkpoint_dir": scratch, "save_dataset": False, **place}
        self.data: Any = None
        self.order, self.group = "RO", "user"

    def chosen(self, valid: float) -> dict[str, Any]:
        """Return what the held-out share says about what the parameters leave open."""
        self.say("reading the data")
        config = self._config((1 - valid, valid, 0))
        in_epochs = config["MODEL_TYPE"] != ModelType.TRADITIONAL
        if in_epochs and {"epochs", "max_steps"} & set(self.parameters):
            return {}
        if not in_epochs and not config["auto"]:
            return {}
        scores: dict[int, float] = {}

        def seen(epoch: int, score: float) -> None:
            scores[epoch] = score
            self.say(f"choosing the number of epochs, {config['valid_metric']} {score:.4f} after {epoch + 1}")

        self.say("choosing its parameters on held-out likes" if not in_epochs else "training, to choose the epochs")
        model, _ = self._train(config, seen)
        if hasattr(model, "chosen"):
            return dict(model.chosen)
        if not scores:
            return {}
        best = (
            max(scores, key=scores.__getitem__)
            if config["valid_metric_bigger"]
            else min(scores, key=scores.__getitem__)
        )
        every = config["eval_every_steps"]
        return {"max_steps": (best + 1) * every} if every else {"epochs": best + 1}

    def fitted(self, chosen: Mapping[str, Any]) -> Recommender:
        """Return the model fitted to everything."""
        self.say("fitting to everything")
        config = self._config(EVERYTHING, chosen)
        if config["auto"] and not chosen:  # valid=0: there is nothing to choose on, and that was asked for
            config = self._config(EVERYTHING, {"auto": False})
        for name in chosen.keys() - self.parameters.keys():
            del config.external_config_dict[name]  # a live learner holds what was given, and chooses the rest again
        model, data = self._train(config)
        sequences = UserSequences(data) if config["MODEL_TYPE"] == ModelType.SEQUENTIAL else None
        return Recommender(config, model, data, kept=self.kept, sequences=sequences)

    def _config(self, ratios: tuple[float, float, float], chosen: Mapping[str, Any] | None = None) -> Any:
        given = {**self.parameters, **(chosen or {})}
        k = TOPK if self.data is None else min(TOPK, self.data.item_num - 1)
        chosen_by = str(self.parameters.get("valid_metric", f"NDCG@{k}"))
        metric, length = split_length(chosen_by)
        judged = {"metrics": [metric], "topk": [length or k], "valid_metric": chosen_by}
        held = {"split": {"RS": list(ratios)}, "order": self.order, "group_by": self.group, "mode": "full"}
        keys = {**judged, **self.quiet, "eval_args": held, **given}
        config = make_config(self.model, self.name, (), keys, self.seed)
        reads = "features" in config.internal_config_dict or config["allow_unknown_keys"]
        if given.get("features") is not None and not reads:  # a table gives them to all of its models
            raise UsageError(f"{config['model']} reads no features; leave features out, or fit SSF, SSFL or SSFT.")
        if config["MODEL_TYPE"] == ModelType.SEQUENTIAL and self.order != "TO":
            self.order = "TO"
            return self._config(ratios, chosen)
        if self.data is None:
            with own_arguments_hidden():
                init_seed(config["seed"], config["reproducibility"])
                self.data = create_dataset(config)
            if config["benchmark_filename"] and config["signed"] is None:
                raise UsageError(f"'{self.name}' is split already and has no sign, so it can't be fitted as a whole.")
            if config["auto"] is not None and config["signed"] is not None:
                # what is held out to choose on, and so what is chosen, is not to follow the order of rows
                self.data.order_by_ids()
            timed = getattr(get_model(config["model"]), "chooses_in_time", False)
            if timed and self.data.times("inter_feat") is not None:
                self.order, self.group = "TO", "none"
            return self._config(ratios, chosen)
        return config

    def _train(self, config: Any, on_validation: Any = None) -> tuple[Any, Any]:
        """Return a trained model and the data set, which the split has shuffled."""
        data = copy.deepcopy(self.data, {id(self.data.config): config})
        remember_vocabulary(data)
        with own_arguments_hidden():
            init_seed(config["seed"], config["reproducibility"])
            train_data, valid_data, _ = data_preparation(config, data)
            del data  # the parts have rows of their own
            init_seed(config["seed"], config["reproducibility"])
            model = get_model(config["model"])(config, train_data._dataset).to(config["device"])
            if on_validation is None:
                model.auto = False  # what was open is chosen
            trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
            watched: dict[str, Any] = {} if on_validation is None else {"callback_fn": on_validation}
            show = config["show_progress"]
            try:
                trainer.fit(train_data, valid_data or None, saved=False, show_progress=show, **watched)
            except ValueError as error:
                if "loss is nan" not in str(error):
                    raise
                raise UsageError(
                    f"the training of {self.model} diverged: its loss is not a number; give a smaller learning_rate."
                ) from error
        return model.eval(), train_data._dataset


def data_place(data: Any, features: Any) -> tuple[str, dict[str, str]]:
    """Return the name of a data set, and where it is if it is said; refuse features that a table does not have."""
    if isinstance(data, Interactions):
        asked = features if data._kept and isinstance(features, Mapping) else {}
        for side in ("item", "user"):
            if asked.get(side) is not None and not (data.folder / f"{data.name}.{side}").is_file():
                raise UsageError(
                    f"features.{side} is given, but the data has no table of {side}s; give one to "
                    f"from_frame(..., {side}s=...), or leave features.{side} out."
                )
        return data.name, {"data_path": str(data.folder.parent)}
    if not isinstance(data, (str, Path)):
        raise UsageError(
            f"data is {type(data).__name__}; give the name or folder of a data set, or what from_frame() returns."
        )
    folder = Path(data).resolve()
    if has_interactions(folder):
        return folder.name, {"data_path": str(folder.parent)}
    if folder.is_file():
        raise UsageError(f"{data} is a file; give the folder of the data set.")
    if isinstance(data, Path) or not is_plain_name(data) or any(folder.glob("*.inter")):
        if not folder.parent.is_dir():
            raise UsageError(f"there is no folder {folder}; give the name or folder of a data set.")
        raise unknown_dataset_error({"data_path": folder})
    return data, {}
