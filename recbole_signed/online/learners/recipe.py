"""How a model is made anew, as often as the graph under it changes."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import recbole
import torch
from recbole.config import Config
from recbole.utils import InputType, ModelType

from recbole_signed.compat import own_arguments_hidden
from recbole_signed.errors import UsageError
from recbole_signed.model import SignedRecommender
from recbole_signed.online.learners.edge_dataset import EdgeDataset
from recbole_signed.online.store.edges import EdgeArrays
from recbole_signed.plugin import registry

TRAINING_KEYS = (
    "clip_grad_norm", "epochs", "learner", "learning_rate", "lr_gamma", "lr_milestones", "n_negatives",
    "negative_exponent", "reproducibility", "seed", "train_batch_size", "weight_decay",
)  # fmt: skip
Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class TrainingRecipe:
    """A model's class and configuration; nothing changes it."""

    name: str
    model_class: Any
    config: Any

    @classmethod
    def named(cls, name: str, settings: Mapping[str, Any]) -> TrainingRecipe:
        """Return the recipe of a model by its name, with ``settings`` over the defaults of its yaml.

        Raises:
            UsageError: there is no such model or parameter, or it has no embeddings to go on with.
        """
        with tempfile.TemporaryDirectory() as root, own_arguments_hidden():
            (Path(root) / "edges").mkdir()  # a signed data set without rows: its head is what a Config looks at
            (Path(root) / "edges" / "edges.inter").write_text("user_id:token\titem_id:token\tsign:float\n")
            config = Config(
                model=name,
                dataset="edges",
                config_dict={"data_path": root, "use_gpu": False, "show_progress": False, **settings},
            )
        return cls.of(config.model_class, config)

    @classmethod
    def of(cls, model_class: Any, config: Any) -> TrainingRecipe:
        """Return the recipe of a class and RecBole's configuration.

        Raises:
            UsageError: it has no embeddings of users and items, is not trained by gradients on pairs, or by another
                optimizer than Adam.
        """
        name = model_class.__name__
        if not _embeds(model_class) or model_class.type != ModelType.GENERAL:
            raise UsageError(f"{name} can't go on learning: it has no embeddings of users and items that are trained.")
        if getattr(model_class, "batches", None) is None and model_class.input_type != InputType.PAIRWISE:
            raise UsageError(f"{name} can't go on learning: it is not trained on pairs of a liked and another item.")
        if str(config["learner"] or "adam").lower() != "adam":
            raise UsageError(f"'learner' is {config['learner']}, but a stream knows Adam alone; leave it out.")
        return cls(name, _faster(model_class), config)

    def __deepcopy__(self, memo: dict[int, Any]) -> TrainingRecipe:
        return self

    @property
    def own_score(self) -> bool:
        """Whether scores are something else than inner products."""
        return issubclass(self.model_class, SignedRecommender) and (
            self.model_class.score is not SignedRecommender.score
        )

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of the model and its training that are plain numbers, words or lists of them."""
        known = {*TRAINING_KEYS, *_keys_of(self.name)}
        values = self.config.final_config_dict
        return {key: values[key] for key in sorted(known & set(values)) if _is_plain(values[key])}

    def build(self, edges: EdgeArrays, n_users: int, n_items: int) -> Any:
        """Return a new instance on a graph, with random parameters."""
        model = self.model_class(self.config, EdgeDataset(edges, n_users, n_items, self.config))
        return model.to(self.config["device"])


def embeddings_of(model: Any) -> Pair:
    """Return what scores are made of, without gradients: users ``[n_users, d]``, items ``[n_items, d]``."""
    model.eval()
    with torch.no_grad():
        if isinstance(model, SignedRecommender):
            users, items = model.embeddings()
        elif _is_graph_model(type(model)):
            users, items = model.forward()
        else:
            users, items = model.user_embedding.weight, model.item_embedding.weight
    return users.detach().cpu(), items.detach().cpu()


def _embeds(model_class: Any) -> bool:
    if issubclass(model_class, SignedRecommender):
        return model_class.encode is not SignedRecommender.encode
    return model_class.__name__ in ("BPR", "LightGCN")


def _is_graph_model(model_class: Any) -> bool:
    return any(base.__name__ == "LightGCN" for base in model_class.__mro__)


def _faster(model_class: Any) -> Any:
    from recbole.model.general_recommender.lightgcn import LightGCN

    from recbole_signed.online.learners.light_gcn import BipartiteLightGCN

    return BipartiteLightGCN if model_class is LightGCN else model_class


def _keys_of(model: str) -> list[str]:
    """Return the parameters that the yaml of a model lists."""
    entry = registry.models().get(model)
    path = entry.properties if entry is not None and entry.properties is not None else None
    if path is None:
        path = Path(recbole.__file__).parent / "properties" / "model" / f"{model}.yaml"
    return re.findall(r"^([A-Za-z_]\w*) *:", Path(path).read_text(encoding="utf-8"), re.MULTILINE)


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(each) for each in value)
    if isinstance(value, str):
        return re.fullmatch(r"[\w.\-]*", value) is not None
    return isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value))
