"""What signed recommenders share: the signed graph, cached embeddings, and scoring for RecBole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from recbole.model.abstract_recommender import GeneralRecommender, SequentialRecommender
from recbole.utils import InputType

from recbole_signed.atomic.signs import HOW_TO_SIGN
from recbole_signed.errors import UsageError
from recbole_signed.graph import SignedGraph
from recbole_signed.plugin.facts import set_facts

CELLS = 4_000_000  # scores of all items that are made at a time to take some of them: bounds the memory, not the result


class SignedRecommender(GeneralRecommender):
    """A general recommender that knows likes and dislikes.

    A model gives :meth:`encode` and, if it is trained by gradients, :meth:`loss`; this class gives RecBole's
    interface. A model without user embeddings overrides :meth:`score` instead.

    Attributes:
        graph (SignedGraph): likes and dislikes of the training part, over RecBole's ids (0 is padding).
        needs_sign: the model can't do without a sign in the data; where it can, rows without one are likes.
        uses_dislikes, family: what ``recbole-signed models`` lists, with ``source``.
        reads_neutrals: with ``neutral_weight`` its graph has the rows without a verdict; of other models it has none.
        batches: what :meth:`loss` is given. ``"edges"``: likes and dislikes, ``"likes"``: likes alone, both with
            ``n_negatives`` sampled items each (:class:`~recbole_signed.data.dataloader.SignedTrainDataLoader`);
            None: RecBole's own batches of the model's ``input_type``.
        trainer_class: ``module:Class`` of its trainer.

    What tables, the report, the export and the live learners ask of a model (:mod:`recbole_signed.plugin.facts`). Those
    of this package's own models lie in ``properties/models.yaml``, from which their classes get them:

    Attributes:
        source: the paper; "this package" for a model that is presented as its own.
        seedless: it draws nothing, so a table runs one seed where the split draws nothing either.
        trained_by_gradients: by steps of an optimizer.
        is_reference: it is shown to compare with (popularity, random), not as a method.
        display_name: how tables and figures write it; empty: as the class. A class that extends it has its own.
        learner: ``module:Class`` of what goes on learning from events. None: what the learners know the model by, or
            one that learns embeddings.
        stream_chooser: ``module:function`` that chooses settings on the base of a stream; called with edges, n_users,
            n_items and what is given. None: what the package has for the model, if anything.
        export_recipe: what ``recbole-signed upstream`` leaves out, or why it refuses: the fields of
            :class:`~recbole_signed.lab.upstream.bundle.ExportRecipe`. Empty: what ``lab/upstream/recipes.yaml`` has
            for it.
        parameter_ranges: key -> the values that a parameter may have, beside those that all models share
            (:data:`recbole_signed.plugin.ranges.RANGES`), as :meth:`recbole_signed.plugin.ranges.Interval.parse` reads
            them. A run and a search space of ``tune`` are checked against it.
    """

    input_type = InputType.PAIRWISE
    needs_sign = True
    uses_dislikes = True
    reads_neutrals = False
    family = "signed graph"
    source = ""
    batches: str | None = None
    trainer_class = "recbole_signed.trainer.signed_trainer:SignedTrainer"
    seedless = False
    trained_by_gradients = True
    is_reference = False
    display_name = ""
    learner: str | None = None
    stream_chooser: str | None = None
    export_recipe: ClassVar[Mapping[str, Any]] = {}
    parameter_ranges: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        set_facts(cls)

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.graph: SignedGraph = self._graph_of(dataset)
        self._embeddings: tuple[torch.Tensor, torch.Tensor] | None = None

    def _graph_of(self, dataset: Any) -> SignedGraph:
        """Return the graph of the training part; of a data set of RecBole's own, all of whose rows are likes."""
        if hasattr(dataset, "signed_graph"):
            graph: SignedGraph = dataset.signed_graph()
            if graph.neutrals is None or self.reads_neutrals:
                return graph
            return replace(graph, neutrals=None, neutral_weight=0.0)
        if self.needs_sign:
            need = "learns from dislikes" if self.uses_dislikes else "reads data with a sign"
            raise UsageError(f"{type(self).__name__} {need}, but {type(dataset).__name__} has none; {HOW_TO_SIGN}")
        likes = dataset.inter_feat
        edges = likes[dataset.uid_field].numpy(), likes[dataset.iid_field].numpy()
        none = np.empty(0, dtype=np.int64)
        return SignedGraph.from_edges(edges, (none, none), dataset.user_num, dataset.item_num)

    def training_rows(self, dataset: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return users, items and whether it is a like, ``[n_rows]`` each, of the training part, repeated ones too."""
        likes, dislikes = dataset.inter_feat, dataset.neg_feat
        users, items = (
            torch.cat([table[field] for table in (likes, dislikes)]) for field in (dataset.uid_field, dataset.iid_field)
        )
        return users, items, torch.arange(len(users)) < len(likes)

    def read_histories(self, dataset: Any) -> None:
        """Score users by their edges in another data set of the same ids; nothing is fitted again."""
        self.graph = self._graph_of(dataset)

    def encode(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return user embeddings ``[n_users, d]`` and item embeddings ``[n_items, d]``."""
        raise NotImplementedError(f"{type(self).__name__} gives no embeddings.")

    def loss(self, batch: Any) -> torch.Tensor:
        """Return the loss, a scalar, of a batch; what is in it depends on ``batches``."""
        raise UsageError(f"{type(self).__name__} has no loss(); a model that is trained in epochs must define it.")

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return :meth:`encode`."""
        return self.encode()

    def calculate_loss(self, interaction: Any) -> torch.Tensor:
        """Return :meth:`loss`; the cached embeddings are stale after the step that follows."""
        self._embeddings = None
        return self.loss(interaction)

    def train(self, mode: bool = True) -> SignedRecommender:
        """Switch between training and evaluation; either way embeddings are encoded again when they are needed."""
        self._embeddings = None
        return super().train(mode)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load parameters, after which embeddings are encoded again."""
        self._embeddings = None
        return super().load_state_dict(*args, **kwargs)

    def embeddings(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return :meth:`encode` without gradients, computed once per evaluation."""
        if self._embeddings is None:
            with torch.no_grad():
                users, items = self.encode()
            self._embeddings = users.detach(), items.detach()  # they may be the parameters themselves
        return self._embeddings

    def score(self, users: torch.Tensor) -> torch.Tensor:
        """Return the scores of all items for ``users [batch]``: ``[batch, n_items]``."""
        user_embedding, item_embedding = self.embeddings()
        return user_embedding[users] @ item_embedding.T

    def judged(self, users: torch.Tensor) -> torch.Tensor:
        """Return what all items are ranked by for ``users [batch]``, ``[batch, n_items]``: :meth:`score`."""
        return self.score(users)

    def predict(self, interaction: Any) -> torch.Tensor:
        """Return what (user, item) pairs are ranked by, ``[batch]``."""
        users, items = interaction[self.USER_ID], interaction[self.ITEM_ID]
        distinct, row = users.unique(return_inverse=True)
        size = max(CELLS // self.n_items, 1)
        if len(distinct) <= size:
            return self.judged(distinct)[row, items]
        block = row // size
        order = block.argsort()
        scores = torch.cat(
            [
                self.judged(distinct[number * size : (number + 1) * size])[row[pairs] % size, items[pairs]]
                for number, pairs in enumerate(order.split(block.bincount().tolist()))
            ]
        )
        return scores[order.argsort()]

    def full_sort_predict(self, interaction: Any) -> torch.Tensor:
        """Return what all items are ranked by for each user, flat ``[batch * n_items]``."""
        return self.judged(interaction[self.USER_ID]).reshape(-1)


class SignedSequentialRecommender(SequentialRecommender):
    """A sequential recommender that reads likes and dislikes in one sequence."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        set_facts(cls)

    def with_signs(self, batch: Any) -> Any:
        """Return a batch with the items of both signs in order, their signs in ``sign_list``, and their number."""
        return batch
