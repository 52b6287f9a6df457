"""Makes learners: a model's is its class attribute ``learner``, else what :data:`LEARNERS` has for it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from recbole_signed.errors import UsageError, ending
from recbole_signed.graph.personal_verdict import STRENGTH
from recbole_signed.live.learners.base import Learner
from recbole_signed.plugin import registry
from recbole_signed.plugin.facts import STOCK, facts_of, lineage
from recbole_signed.plugin.ranges import RANGES, check_range, declared_ranges, without_numpy, without_removed

LEARNERS = {
    "DecayPop": "recbole_signed.live.learners.popular:DecayPopularLearner",
    "Pop": "recbole_signed.live.learners.popular:PopularLearner",
    "SSF": "recbole_signed.live.learners.ssf.learner:SpectralLearner",
    "SSFL": "recbole_signed.live.learners.ssf.learned_learner:LearnedSpectralLearner",
    "SSFT": "recbole_signed.live.learners.ssf.time_learner:TimeLearner",
    "SignedEASE": "recbole_signed.live.learners.ease:EaseLearner",
    "SignediALS": "recbole_signed.live.learners.signed_ials:LeastSquaresLearner",
}
"""Learners of models and of those that extend them; any other model has :data:`EMBEDDING`."""
EMBEDDING = "recbole_signed.live.learners.embedding:EmbeddingLearner"


def make_learner(model: str, settings: Mapping[str, Any] | None = None) -> Learner:
    """Return an unfitted learner with a model's parameters, or UsageError where it can't go on learning."""
    given = without_numpy(dict(settings or {}))
    strength = _strength_of(given, STRENGTH)
    try:
        learner = _make(model, given)
    except UsageError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        told = ", ".join(f"{key}={value!r}" for key, value in given.items())
        raise UsageError(f"{model} can't follow a stream with {told} ({type(error).__name__}: {error}).") from error
    learner.dislike_strength = strength
    return learner


def described(learner: Learner) -> dict[str, Any]:
    """Return what :func:`learner_from` makes an unfitted learner of the same settings from, as JSON."""
    return {
        "model": learner.name,
        "parameters": learner.parameters(),
        "columns": learner.columns(),
        "dislike_strength": learner.dislike_strength,
    }


def learner_from(description: Mapping[str, Any]) -> Learner:
    """Return an unfitted learner of the settings that :func:`described` gave."""
    try:
        model, parameters = str(description["model"]), dict(description["parameters"])
        strength = _strength_of(dict(description), STRENGTH)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError("The version does not say what model it is of; fit it again from the data set.") from error
    known = [*registry.models(), *STOCK]
    if model not in known:
        raise UsageError(f"The version is of the model '{model}', which can't go on learning{ending(model, known)}")
    learner = make_learner(model, parameters)
    learner.dislike_strength = strength
    return learner


def _strength_of(settings: dict[str, Any], default: float) -> float:
    """Take the strength of the personal verdict out of settings."""
    without_removed(settings)
    value = settings.pop("dislike_strength", None)
    check_range("dislike_strength", value := default if value is None else value, RANGES["dislike_strength"])
    return float(value)


def _factory(model: str) -> Any:
    ours = (LEARNERS[name] for name in lineage(model) if name in LEARNERS)
    return registry.load_object(facts_of(model).learner or next(ours, EMBEDDING))


def _make(model: str, given: dict[str, Any]) -> Learner:
    factory = _factory(model)
    learner: Learner
    if hasattr(factory, "from_model"):  # one class for many models
        learner = factory(model, given)
    elif hasattr(factory, "from_settings"):
        learner = factory.from_settings(given)
    else:
        known = list(inspect.signature(factory).parameters)
        ranges = declared_ranges(facts_of(model).parameter_ranges)
        for key, value in given.items():
            if key not in known:
                raise UsageError(f"{model} has no parameter '{key}' under a stream{ending(key, known)}")
            if key in ranges:
                check_range(key, value, ranges[key])
        learner = factory(**given)
    return learner


def learner_of(model: Any, config: Any) -> Learner:
    """Return a learner with the settings of a trained model; one that learns embeddings starts from its."""
    name = type(model).__name__
    if getattr(model, "dislike_aversion", 0.0) and not hasattr(model, "chosen"):
        raise UsageError(
            f"dislike_aversion is {model.dislike_aversion:g}, which {name} has at evaluation alone; its live learner "
            "has none: leave the key out, or use SSF, SSFL or SSFT."
        )
    online = dict(config["online_settings"] or {})
    strength = _strength_of(online, getattr(model, "dislike_strength", STRENGTH))
    factory = _factory(name)
    if hasattr(factory, "from_model"):
        learner: Learner = factory.from_model(model, config, online)
    else:
        if getattr(getattr(model, "graph", None), "neutrals", None) is not None:
            raise UsageError(
                f"neutral_weight is {model.graph.neutral_weight:g}, but the live learner of {name} knows likes and "
                "dislikes alone; set neutral_weight: 0."
            )
        for key in online:
            raise UsageError(f"'online_settings' has a key '{key}' that {name} does not know; only dislike_strength.")
        if hasattr(model, "chosen"):
            settings = {**model.chosen, "iterations": model.iterations, **model.live_settings}
        else:
            known = inspect.signature(factory).parameters
            settings = {key: config[key] for key in known if config[key] is not None}
        learner = make_learner(name, settings)
        features = getattr(model, "features", None)
        if features is not None:
            learner.take_features(features.items, features.users)
    learner.dislike_strength = strength
    return learner
