"""Which learner a model's name stands for."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from recbole_signed.errors import UsageError, nearest
from recbole_signed.live.learner import Learner

LEARNERS = {
    "Pop": "recbole_signed.live.popular:PopularLearner",
    "SSF": "recbole_signed.live.spectral:SpectralLearner",
    "SignedEASE": "recbole_signed.live.ease:EaseLearner",
    "SignediALS": "recbole_signed.live.least_squares:LeastSquaresLearner",
}
"""Models with updates of their own; every other one is an :class:`~recbole_signed.live.embedding.EmbeddingLearner`."""


def make_learner(model: str, settings: Mapping[str, Any] | None = None) -> Learner:
    """Return an unfitted learner.

    Args:
        model: name of a model.
        settings: its parameters, by the names in its yaml.

    Raises:
        UsageError: the model can't go on learning, or it has no such parameter.
    """
    given = dict(settings or {})
    if model not in LEARNERS:
        from recbole_signed.live.embedding import EmbeddingLearner

        return EmbeddingLearner(model, given)
    factory = _factory(model)
    build = getattr(factory, "from_settings", None)
    if build is not None:
        return build(given)
    known = list(inspect.signature(factory).parameters)
    for key in given:
        if key not in known:
            raise UsageError(f"{model} has no parameter '{key}' under a stream{nearest(key, known)}")
    learner: Learner = factory(**given)
    return learner


def _factory(model: str) -> Any:
    module, _, name = LEARNERS[model].partition(":")
    return getattr(importlib.import_module(module), name)


def learner_of(model: Any, config: Any) -> Learner:
    """Return a learner with the settings of a model that RecBole trained; one that learns embeddings starts from its.

    Args:
        model: an instance of a model; what :meth:`SSF.tune` chose counts.
        config: RecBole's configuration.
    """
    name = type(model).__name__
    if name == "SSF":
        return make_learner(name, {**model.chosen, "iterations": model.iterations})
    if name in LEARNERS:
        known = inspect.signature(_factory(name)).parameters
        return make_learner(name, {key: config[key] for key in known if config[key] is not None})
    from recbole_signed.live.embedding import EmbeddingLearner

    return EmbeddingLearner.from_model(model, config)
