"""How a model is made again, as often as the graph under it changes."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import recbole
import scipy.sparse as sp
import torch
from recbole.config import Config
from recbole.data.interaction import Interaction
from recbole.model.general_recommender.lightgcn import LightGCN
from recbole.utils import InputType, ModelType

from recbole_signed.compat.log import own_arguments_hidden
from recbole_signed.errors import UsageError
from recbole_signed.graph import SignedGraph
from recbole_signed.graph.propagation import BipartiteOperator, Pair
from recbole_signed.live.store.edges import EdgeArrays
from recbole_signed.model import SignedRecommender
from recbole_signed.model.verdicts import unweighed
from recbole_signed.plugin.assignments import yaml_if_there
from recbole_signed.plugin.facts import default_file

TRAINING_KEYS = (
    "clip_grad_norm", "epochs", "eval_step", "learner", "learning_rate", "lr_gamma", "lr_milestones", "n_negatives",
    "negative_exponent", "neutral_weight", "reproducibility", "seed", "sift_positives", "stopping_step",
    "train_batch_size", "weight_decay",
)  # fmt: skip


@dataclass(frozen=True)
class TrainingRecipe:
    """A model's class and configuration; nothing changes it."""

    name: str
    model_class: Any
    config: Any

    @classmethod
    def named(cls, name: str, settings: Mapping[str, Any]) -> TrainingRecipe:
        """Return the recipe of a model by its name, with ``settings`` over the defaults of its yaml."""
        with tempfile.TemporaryDirectory() as root, own_arguments_hidden():
            (Path(root) / "edges").mkdir()  # a signed data set without rows: its head is what a Config looks at
            (Path(root) / "edges" / "edges.inter").write_text("user_id:token\titem_id:token\tsign:float\n")
            config = Config(
                model=name,
                dataset="edges",
                config_dict={"data_path": root, "use_gpu": False, "show_progress": False, **settings},
            )
        return cls.from_config(config.model_class, config)

    @classmethod
    def from_config(cls, model_class: Any, config: Any) -> TrainingRecipe:
        """Return the recipe of a class and RecBole's configuration."""
        model_class, config = unweighed(model_class, config)  # what is ranked live is lowered once, for every model
        name = model_class.__name__
        if not _embeds(model_class) or model_class.type != ModelType.GENERAL:
            raise UsageError(f"{name} can't go on learning: it has no embeddings of users and items that are trained.")
        if getattr(model_class, "batches", None) is None and model_class.input_type != InputType.PAIRWISE:
            raise UsageError(f"{name} can't go on learning: it is not trained on pairs of a liked and another item.")
        if str(config["learner"] or "adam").lower() != "adam":
            raise UsageError(f"'learner' is {config['learner']}, but a stream knows Adam alone; leave it out.")
        return cls(name, BipartiteLightGCN if model_class is LightGCN else model_class, config)

    def __deepcopy__(self, memo: dict[int, Any]) -> TrainingRecipe:
        return self

    @property
    def own_score(self) -> bool:
        """Whether scores are something else than inner products."""
        return issubclass(self.model_class, SignedRecommender) and (
            self.model_class.score is not SignedRecommender.score
        )

    @property
    def reads_dislikes(self) -> bool:
        """Whether dislikes bear on the parameters."""
        return bool(getattr(self.model_class, "uses_dislikes", False))

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of the model and its training that are numbers, words, or lists or mappings of them."""
        file = default_file(self.name) or Path(recbole.__file__).parent / "properties" / "model" / f"{self.name}.yaml"
        known = {*TRAINING_KEYS, *yaml_if_there(file)}
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
        elif any(base.__name__ == "LightGCN" for base in type(model).__mro__):
            users, items = model.forward()
        else:
            users, items = model.user_embedding.weight, model.item_embedding.weight
    return users.detach().cpu(), items.detach().cpu()


def scores_of(model: Any, users: torch.Tensor) -> torch.Tensor:
    """Return what a model ranks all items by, without gradients, ``[len(users), n_items]``."""
    if isinstance(model, SignedRecommender):  # which may score otherwise than by inner products
        model.eval()
        with torch.no_grad():
            return model.score(users.to(model.device)).cpu()
    own, items = embeddings_of(model)
    return own[users] @ items.T


def _embeds(model_class: Any) -> bool:
    if issubclass(model_class, SignedRecommender):
        return model_class.encode is not SignedRecommender.encode
    return model_class.__name__ in ("BPR", "LightGCN")


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(part) for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return all(_is_plain(part) for part in value)
    if isinstance(value, str):
        return re.fullmatch(r"[\w.\-]*", value) is not None
    return isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value))


class EdgeDataset:
    """A view of the current edges that a model can be built on; no files, no vocabulary, ids of the stream."""

    def __init__(self, edges: EdgeArrays, n_users: int, n_items: int, config: Any) -> None:
        self.config = config
        self.dataset_name = config["dataset"]
        self.uid_field, self.iid_field = config["USER_ID_FIELD"], config["ITEM_ID_FIELD"]
        self.user_num, self.item_num = n_users, n_items
        self._edges = edges
        self.inter_feat, self.neg_feat, self.neutral_feat = (
            self._table(part) for part in (edges.likes, edges.dislikes, edges.neutral)
        )
        signed = config["signed"]
        self.neutral_weight = float(signed.neutral_weight if signed else config["neutral_weight"] or 0.0)
        self._graph: SignedGraph | None = None

    def _table(self, pairs: np.ndarray) -> Interaction:
        users, items = torch.from_numpy(pairs.astype(np.int64))
        return Interaction({self.uid_field: users, self.iid_field: items})

    def __len__(self) -> int:
        return len(self.inter_feat)

    @property
    def inter_num(self) -> int:
        """Number of likes."""
        return len(self)

    def num(self, field: str) -> int:
        """Return the number of ids of a field, padding included."""
        sizes = {self.uid_field: self.user_num, self.iid_field: self.item_num}
        if field not in sizes:
            raise UsageError(f"a stream knows users and items alone, but the model asks for the field '{field}'.")
        return sizes[field]

    def inter_matrix(self, form: str = "coo", value_field: str | None = None) -> Any:
        """Return the likes as a sparse 0/1 matrix ``[n_users, n_items]``, ``form`` is ``coo`` or ``csr``."""
        if value_field is not None:
            raise UsageError(f"a stream has no values of edges, but the model asks for '{value_field}'.")
        users, items = self._edges.likes
        ones = np.ones(len(users), dtype=np.float32)
        return sp.coo_matrix((ones, (users, items)), shape=(self.user_num, self.item_num)).asformat(form)

    def signed_graph(self) -> SignedGraph:
        """Return all edges as one graph ``[n_users, n_items]``, built once."""
        if self._graph is None:
            edges = self._edges
            likes, dislikes, neutral = map(tuple, (edges.likes, edges.dislikes, edges.neutral))
            self._graph = SignedGraph.from_edges(
                likes, dislikes, self.user_num, self.item_num, neutral, self.neutral_weight
            )
        return self._graph


class BipartiteLightGCN(LightGCN):
    """LightGCN whose graph is built and multiplied by as CSR, without RecBole's dictionary (issues #1393, #1398)."""

    def get_norm_adj_mat(self) -> Any:
        """Build the operator; what RecBole keeps in its place is empty."""
        self.operator = BipartiteOperator.symmetric(self.interaction_matrix.tocsr(), self.device)
        return torch.empty(0)

    def forward(self) -> Pair:
        """Return the mean over layers of users ``[n_users, d]`` and of items ``[n_items, d]``."""
        return self.operator.mean_of_layers(self.user_embedding.weight, self.item_embedding.weight, self.n_layers)
