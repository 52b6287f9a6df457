"""Which learner a model's name stands for."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from recbole_signed.errors import UsageError, nearest
from recbole_signed.online.learners.base import DISLIKE_PUSH, Learner
from recbole_signed.plugin import registry

LEARNERS = {
    "Pop": "recbole_signed.online.learners.popular:PopularLearner",
    "SSF": "recbole_signed.ssf.learner:SpectralLearner",
    "SSFL": "recbole_signed.ssf.learned_learner:LearnedSpectralLearner",
    "SSFT": "recbole_signed.ssf.time_learner:TimeLearner",
    "SignedEASE": "recbole_signed.online.learners.ease:EaseLearner",
    "SignediALS": "recbole_signed.online.learners.signed_ials:LeastSquaresLearner",
}
"""Models with updates of their own; every other one is an :class:`~.embedding.EmbeddingLearner`."""


def make_learner(model: str, settings: Mapping[str, Any] | None = None) -> Learner:
    """Return an unfitted learner.

    Args:
        model: name of a model.
        settings: its parameters, by the names in its yaml.

    Raises:
        UsageError: the model can't go on learning, or it has no such parameter.
    """
    given = dict(settings or {})
    push = given.pop("dislike_push", DISLIKE_PUSH)
    learner = _make(model, given)
    if model != "Pop":
        learner.dislike_push = checked_push(push)
    return learner


def described(learner: Learner) -> dict[str, Any]:
    """Return what :func:`learner_from` makes an unfitted learner of the same settings from, as JSON."""
    return {"model": learner.name, "parameters": learner.parameters(), "dislike_push": learner.dislike_push}


def learner_from(description: Mapping[str, Any]) -> Learner:
    """Return an unfitted learner of the settings that :func:`described` gave.

    Raises:
        UsageError: the description is of no model that can go on learning, or has an unknown parameter.
    """
    try:
        model, parameters = str(description["model"]), dict(description["parameters"])
        push = description["dislike_push"]
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError("The version does not say what model it is of; fit it again from the data set.") from error
    if model not in LEARNERS and model not in ("BPR", "LightGCN") and model not in registry.models():
        raise UsageError(
            f"The version is of the model '{model}', which can't go on learning{nearest(model, LEARNERS)}."
        )
    learner = make_learner(model, parameters)
    learner.dislike_push = checked_push(push)
    return learner


def checked_push(value: Any) -> float:
    """Return a strength of the push.

    Raises:
        UsageError: it is no number of 0 or more.
    """
    if not isinstance(value, (int, float)) or not value >= 0:
        raise UsageError(f"'dislike_push' must be a number of 0 or more, but is {value!r}.")
    return float(value)


def _make(model: str, given: dict[str, Any]) -> Learner:
    if model not in LEARNERS:
        from recbole_signed.online.learners.embedding import EmbeddingLearner

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
        model: an instance of a model; what SSF's or SSF-L's ``tune`` chose counts.
        config: RecBole's configuration.
    """
    name = type(model).__name__
    online = dict(config["online_settings"] or {})
    push = online.pop("dislike_push", DISLIKE_PUSH)
    if name not in LEARNERS:
        from recbole_signed.online.learners.embedding import EmbeddingLearner

        learner: Learner = EmbeddingLearner.from_model(model, config, online)
    else:
        for key in online:
            raise UsageError(f"'online_settings' has a key '{key}' that {name} does not know; only dislike_push.")
        if hasattr(model, "chosen"):
            settings = {**model.chosen, "iterations": model.iterations}
        else:
            known = inspect.signature(_factory(name)).parameters
            settings = {key: config[key] for key in known if config[key] is not None}
        learner = make_learner(name, settings)
    learner.dislike_push = checked_push(push)
    return learner
