"""What makes this package known to RecBole and RecBole-GNN: hooks that run right after a module of theirs is imported.

No function of RecBole is replaced; methods are wrapped, and act where the data has a sign or RecBole would fail.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import wrapt

from recbole_signed import quick_start
from recbole_signed.compat import repairs as compat
from recbole_signed.compat.log import tensorboard
from recbole_signed.errors import UsageError, ending
from recbole_signed.plugin import registry
from recbole_signed.plugin.facts import class_name

_trainers: dict[str, str] = {}


def install(trainers: Mapping[str, str]) -> None:
    """Leave the hooks, once; ``trainers`` is what the key ``trainer`` can name, as ``module:function``."""
    _trainers.update(trainers)
    registry.register_own_models()
    registry.register_inherited_models()
    for module_name in compat.REPAIRS:
        wrapt.register_post_import_hook(lambda module: compat.apply(module.__name__, module), module_name)
    for module_name, hook in _HOOKS.items():
        wrapt.register_post_import_hook(hook, module_name)


def _on_recbole(module: ModuleType) -> None:
    registry.read_entry_points()
    registry.open_last_package(module)


def _on_configurator(module: ModuleType) -> None:
    from yaml import YAMLError

    from recbole_signed.plugin import configuration as ours
    from recbole_signed.yaml_spec import read_yaml

    def load_internal(
        wrapped: Callable[[str, type, str], None], instance: Any, args: tuple[str, type, str], kwargs: Any
    ) -> None:
        wrapped(*args, **kwargs)
        _, model_class, dataset = args
        ours.load_defaults(instance, model_class, dataset)

    def load_files(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        try:
            return wrapped(*args, **kwargs)
        except (YAMLError, TypeError, ValueError):  # of what is no yaml, or no mapping, unnamed
            for file in inspect.signature(wrapped).bind(*args, **kwargs).arguments["file_list"]:
                read_yaml(Path(file))
            raise

    def set_defaults(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> None:
        ours.check_given(instance)
        wrapped(*args, **kwargs)
        ours.add_signed_settings(instance)

    wrapt.wrap_function_wrapper(module, "Config._load_internal_config_dict", load_internal)
    wrapt.wrap_function_wrapper(module, "Config._load_config_files", load_files)
    wrapt.wrap_function_wrapper(module, "Config._set_default_parameters", set_defaults)
    _on_configuration(module)


def _on_configuration(module: ModuleType) -> None:
    wrapt.wrap_function_wrapper(module, "Config._get_model_and_dataset", _find_model)


def _find_model(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    """Find a model by its class, its name, or as tables print it; an unknown one ends in a sentence."""
    try:
        answer = wrapped(*args, **kwargs)
        registry.lead_to(answer[1])
        return answer
    except (AttributeError, UsageError, ModuleNotFoundError) as error:
        name = args[0] if args and isinstance(args[0], str) else instance.external_config_dict.get("model")
        if name in registry.known_model_names():  # the fault lies in the model's own module
            raise
        meant = class_name(str(name))
        if meant == name:
            raise registry.unknown_model(name) from error
        return wrapped(meant, *args[1:], **kwargs)


def _on_argument_list(module: ModuleType) -> None:
    # a data set cached by save_dataset is used again only if all of these agree; RecBole forgot some of its own
    module.dataset_arguments.extend(("signed", "encoding", "numerical_features", "discretization"))


def _new_of(class_of: Callable[[Any, Any], type]) -> staticmethod[..., Any]:
    """Return a ``__new__`` that makes what ``class_of`` returns for a class and the configuration it is called with."""

    def new(cls: type, *args: Any, **kwargs: Any) -> Any:
        config = args[0] if args else kwargs.get("config")
        return object.__new__(cls if config is None else class_of(cls, config))

    return staticmethod(new)


def _on_dataset(module: ModuleType) -> None:
    def class_of(cls: type, config: Any) -> type:
        from recbole_signed.data.dispatch import class_for

        return class_for(cls, config)

    def from_scratch(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> None:
        from recbole_signed.trainer.checkpoints import remember_vocabulary

        wrapped(*args, **kwargs)
        remember_vocabulary(instance)

    def sort(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> None:
        by, time = inspect.signature(wrapped).bind(*args, **kwargs).arguments["by"], instance.time_field
        if time in (by if isinstance(by, list) else [by]) and time not in instance.inter_feat:
            by_model = hasattr(instance, "data_augmentation")
            what = instance.config["model"] if by_model else "eval_args.order TO"
            raise UsageError(
                f"{what} needs the order of time, but no column '{time}' of '{instance.dataset_name}' is loaded; "
                "set TIME_FIELD to the column of times, and name it where load_col is given"
                f"{'' if by_model else ', or set eval_args.order to RO'}."
            )
        wrapped(*args, **kwargs)

    def filter_by_value(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> None:
        known = instance.field2type
        for field in instance.config["val_interval"] or {}:
            if field not in known:
                raise UsageError(
                    f"val_interval is of the column '{field}', which is not loaded; name it in load_col, under the "
                    f"file that has it (inter, user or item){ending(field, known)}"
                )
        wrapped(*args, **kwargs)

    module.Dataset.__new__ = _new_of(class_of)
    wrapt.wrap_function_wrapper(module, "Dataset._filter_by_field_value", filter_by_value)
    wrapt.wrap_function_wrapper(module, "Dataset._from_scratch", from_scratch)
    wrapt.wrap_function_wrapper(module, "Dataset.sort", sort)


def _on_trainer(module: ModuleType) -> None:
    """Let the key ``trainer`` extend whatever trainer RecBole chooses, and our keys work for stock models."""
    registry.serve_classes("trainer", module)

    def class_of(cls: Any, config: Any) -> type:
        if config["trainer"]:
            if config["trainer"] not in _trainers:
                raise UsageError(
                    f"there is no trainer '{config['trainer']}' to choose; leave the key out, or set "
                    f"{' or '.join(_trainers)}."
                )
            cls = registry.load_object(_trainers[config["trainer"]])(cls)
        elif cls in (module.Trainer, module.TraditionalTrainer):
            # of a model that is given as a class, and not registered by its name
            own = getattr(getattr(config, "model_class", None), "trainer_class", None)
            own_class = None if own is None else registry.load_object(own)
            if isinstance(own_class, type) and issubclass(own_class, module.Trainer):
                cls = _as_kind_of(cls, own_class)
            elif cls is module.Trainer and any(config[key] for key in OWN_TRAINER_KEYS):
                from recbole_signed.trainer.signed_trainer import SignedTrainer

                cls = SignedTrainer
        one_pass = issubclass(cls, module.TraditionalTrainer)  # it has nothing that a budget could end
        ignored = [key for key in (("resume",) if one_pass else OWN_TRAINER_KEYS) if config[key]]
        if ignored and not hasattr(cls, "resumes"):
            raise UsageError(
                f"{config['model']} has a trainer of its own, {cls.__name__}, on which {ignored[0]} has no effect; "
                "leave it out for this model."
            )
        return cls

    module.Trainer.__new__ = _new_of(class_of)


@cache
def _as_kind_of(chosen: type, own: type) -> type:
    """Return a model's own trainer as a class of the kind that RecBole chose: Python initialises no other."""
    return own if issubclass(own, chosen) else type(own.__name__, (own, chosen), {"__module__": own.__module__})


def _on_trainer_file(module: ModuleType) -> None:
    """Let RecBole's trainer keep what a training needs to go on: the states of the random generators."""

    def fit(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        from recbole_signed.evaluation.valid_metric import dislikes_left_out
        from recbole_signed.plugin.configuration import check_valid_metric

        if instance.config["refit_for_test"] and not hasattr(instance, "may_refit"):
            raise UsageError(
                "refit_for_test fits a model twice, and here it is fitted once; leave it out, or use 'recbole-signed "
                "run'."
            )
        instance.recbole_signed_loader = args[0] if args else kwargs["train_data"]
        validates = instance.eval_step > 0 and (args[1] if len(args) > 1 else kwargs.get("valid_data"))
        if validates:
            check_valid_metric(instance.config)
            if left_out := dislikes_left_out(instance.config, validates):
                instance.logger.warning(left_out)
        result = wrapped(*args, **kwargs)
        if validates and (args[3] if len(args) > 3 else kwargs.get("saved", True)):
            _keep_last(instance)
        return result

    def save_checkpoint(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> None:
        from recbole_signed.trainer.checkpoints import save_checkpoint

        save_checkpoint(instance, *args, **kwargs)

    wrapt.wrap_function_wrapper(module, "Trainer.fit", fit)
    wrapt.wrap_function_wrapper(module, "Trainer._save_checkpoint", save_checkpoint)
    wrapt.wrap_function_wrapper(module, "get_tensorboard", tensorboard)


def _keep_last(trainer: Any) -> None:
    """Keep the last state where no validation was the best: RecBole saves nothing then, and tests what it saved."""
    if (
        math.isfinite(trainer.best_valid_score)
        or os.path.exists(trainer.saved_model_file)
        or not trainer.train_loss_dict
    ):
        return
    trainer.logger.warning(
        "No epoch was the best one on validation (is valid_metric defined?): the last one is tested."
    )
    trainer._save_checkpoint(max(trainer.train_loss_dict), verbose=False)


def _on_data_utils(module: ModuleType) -> None:
    def get_dataloader(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        from recbole_signed.data.dispatch import loader_for

        return loader_for(wrapped(*args, **kwargs), *args, **kwargs)

    wrapt.wrap_function_wrapper(module, "get_dataloader", get_dataloader)

    def create_sampler(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        from recbole_signed.data.dispatch import sampler_for

        return sampler_for(wrapped, *args, **kwargs)

    wrapt.wrap_function_wrapper(module, "_create_sampler", create_sampler)


def _on_metric_register(module: ModuleType) -> None:
    from recbole_signed.evaluation import group_metrics, metrics, sign_aware_metrics

    for kinds in (metrics.METRICS, metrics.POOLED_METRICS, sign_aware_metrics.SIGN_AWARE_METRICS):
        metrics.register(module, kinds)
    metrics.register(module, {**group_metrics.GROUP_METRICS, **group_metrics.COLD_METRICS})


def _on_collector(module: ModuleType) -> None:
    from recbole_signed.evaluation import collector

    collector.install(module)


def _on_abstract_recommender(module: ModuleType) -> None:
    """Let ``dislike_aversion`` weigh the scores of every model that has no such parameter of its own."""

    def class_of(cls: type, config: Any) -> type:
        from recbole_signed.model.verdicts import class_for

        return class_for(cls, config)

    module.AbstractRecommender.__new__ = _new_of(class_of)


def _on_pop(module: ModuleType) -> None:
    """Let RecBole's popularity baseline count likes, on signed data; its own count depends on batches (pop.py:47)."""
    import torch

    def init(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> None:
        wrapped(*args, **kwargs)
        config, dataset = (*args, *kwargs.values())[:2]
        instance.counts_likes = bool(config["signed"])
        if instance.counts_likes:
            items = dataset.inter_feat[instance.ITEM_ID]
            instance.item_cnt = torch.bincount(items, minlength=instance.n_items)[:, None].to(instance.device)
            instance.max_cnt = instance.item_cnt.max(dim=0)[0]

    def calculate_loss(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        if instance.counts_likes:
            return instance.fake_loss.sum()
        return wrapped(*args, **kwargs)

    wrapt.wrap_function_wrapper(module, "Pop.__init__", init)
    wrapt.wrap_function_wrapper(module, "Pop.calculate_loss", calculate_loss)


def _on_random(module: ModuleType) -> None:
    """Let a score of RecBole's random baseline depend on seed, user and item alone, on signed data."""
    import numpy as np
    import torch

    def bits_above(values: torch.Tensor, shift: int) -> torch.Tensor:
        return (values >> shift) & ((1 << (64 - shift)) - 1)

    def drawn(instance: Any, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Return numbers from 0 to below 1: SplitMix64 (Steele et al., OOPSLA 2014) of the number of the pair."""
        pairs = instance.seed_of_pairs + users.to(instance.device) * instance.n_items + items.to(instance.device)
        values = pairs * -0x61C8864680B583EB
        values = (values ^ bits_above(values, 30)) * -0x40A7B892E31B1A47
        values = (values ^ bits_above(values, 27)) * -0x6B2FB644ECCEEE15
        return bits_above(values ^ bits_above(values, 31), 11).double() * 2.0**-53

    def init(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> None:
        wrapped(*args, **kwargs)
        config = (*args, *kwargs.values())[0]
        seed = np.random.SeedSequence(config["seed"]).generate_state(1, np.uint64)[0] >> np.uint64(1)
        instance.seed_of_pairs = int(seed) if config["signed"] else None

    def full_sort_predict(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        if instance.seed_of_pairs is None:
            return wrapped(*args, **kwargs)
        users = (*args, *kwargs.values())[0][instance.USER_ID]
        return drawn(instance, users[:, None], torch.arange(instance.n_items)).view(-1)

    def predict(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        if instance.seed_of_pairs is None:
            return wrapped(*args, **kwargs)
        batch = (*args, *kwargs.values())[0]
        # RecBole puts these into a float32 matrix, where torch converts no other type
        return drawn(instance, batch[instance.USER_ID], batch[instance.ITEM_ID]).float()

    wrapt.wrap_function_wrapper(module, "Random.__init__", init)
    wrapt.wrap_function_wrapper(module, "Random.full_sort_predict", full_sort_predict)
    wrapt.wrap_function_wrapper(module, "Random.predict", predict)


def _on_ease(module: ModuleType) -> None:
    """Let RecBole's EASE invert its Gram matrix in place, on signed data; its own way keeps some eight matrices."""
    import numpy as np
    import torch

    def init(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> None:
        config, dataset = (*args, *kwargs.values())[:2]
        if not config["signed"]:
            wrapped(*args, **kwargs)
            return
        from recbole_signed.graph.inverse import gram_inverse

        if not config["reg_weight"] > 0:
            raise UsageError(f"reg_weight is {config['reg_weight']}; that of EASE must be a number above 0.")
        super(module.EASE, instance).__init__(config, dataset)
        instance.dummy_param = torch.nn.Parameter(torch.zeros(1))
        instance.interaction_matrix = dataset.inter_matrix(form="csr").astype(np.float32)
        weights = gram_inverse(instance.interaction_matrix, config["reg_weight"]).numpy()
        weights /= -np.diag(weights).copy()
        np.fill_diagonal(weights, 0.0)
        instance.item_similarity = weights
        instance.other_parameter_name = ["interaction_matrix", "item_similarity"]
        instance.device = config["device"]

    def other_parameter(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        parameters = wrapped(*args, **kwargs)
        kept = parameters.get("item_similarity")
        # a tensor is written from where it lies; of an array, pickle makes copies first
        return {**parameters, "item_similarity": torch.from_numpy(kept)} if type(kept) is np.ndarray else parameters

    def load_other_parameter(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> None:
        wrapped(*args, **kwargs)
        if isinstance(instance.item_similarity, torch.Tensor):
            instance.item_similarity = instance.item_similarity.cpu().numpy()

    wrapt.wrap_function_wrapper(module, "EASE.__init__", init)
    wrapt.wrap_function_wrapper(module, "EASE.other_parameter", other_parameter)
    wrapt.wrap_function_wrapper(module, "EASE.load_other_parameter", load_other_parameter)


def _on_quick_start(module: ModuleType) -> None:
    """Let worker processes know the plugin: they import what a pickled function names as its module."""
    for name in quick_start.PICKLED_FUNCTIONS:
        getattr(module, name).__module__ = quick_start.__name__


def _on_case_study(module: ModuleType) -> None:
    """Let ``full_sort_scores`` and ``full_sort_topk`` hide of a sequential model what its evaluation hides."""
    import torch

    def full_sort_scores(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        scores = wrapped(*args, **kwargs)
        given = inspect.signature(wrapped).bind(*args, **kwargs).arguments
        loader = given["test_data"]
        if hasattr(loader, "hidden"):
            dataset = loader.dataset
            users = torch.as_tensor(given["uid_series"])[:, None]
            rows = dataset.inter_feat[(dataset.inter_feat[dataset.uid_field] == users).nonzero(as_tuple=True)[1]]
            scores[loader.hidden(rows[dataset.uid_field], rows[dataset.iid_field])] = -math.inf
        return scores

    wrapt.wrap_function_wrapper(module, "full_sort_scores", full_sort_scores)


def _on_gnn_utils(module: ModuleType) -> None:
    """Let RecBole-GNN's models keep RecBole's trainer where we have a model, and so a trainer, of the same name."""
    from recbole.trainer import Trainer

    def get_trainer(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        trainer = wrapped(*args, **kwargs)
        name = kwargs["model_name"] if "model_name" in kwargs else args[1]
        entry = registry.models().get(name)
        if entry is None or registry.serves(entry, module.get_model(name)):
            return trainer
        return trainer if trainer.__module__.partition(".")[0] == registry.GNN_PACKAGE else Trainer

    wrapt.wrap_function_wrapper(module, "get_trainer", get_trainer)


OWN_TRAINER_KEYS = ("training_budget", "max_steps", "eval_every_steps", "resume", "lr_milestones")
"""Keys that only our trainer reads: it serves stock models too where one of them is set."""

_HOOKS: dict[str, Callable[[ModuleType], None]] = {
    "recbole": _on_recbole,
    "recbole.config.configurator": _on_configurator,
    "recbole.utils.argument_list": _on_argument_list,
    "recbole.data.dataset.dataset": _on_dataset,
    "recbole.data.dataset": partial(registry.serve_classes, "dataset"),
    "recbole.trainer": _on_trainer,
    "recbole.trainer.trainer": _on_trainer_file,
    "recbole.data.utils": _on_data_utils,
    "recbole.evaluator.register": _on_metric_register,
    "recbole.evaluator.collector": _on_collector,
    "recbole.model.abstract_recommender": _on_abstract_recommender,
    "recbole.model.general_recommender.pop": _on_pop,
    "recbole.model.general_recommender.random": _on_random,
    "recbole.model.general_recommender.ease": _on_ease,
    "recbole.quick_start.quick_start": _on_quick_start,
    "recbole.utils.case_study": _on_case_study,
    "recbole_gnn.utils": _on_gnn_utils,
    "recbole_gnn.config": _on_configuration,
}
