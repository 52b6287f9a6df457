"""What differs in stock RecBole: keys that only this package's trainers read, and parts of models for them alone."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from recbole_signed.plugin.facts import ModelFacts, facts_of, lineage
from recbole_signed.yaml_spec import read_yaml

ALL_IN_ONE_BATCH = 1_000_000_000
"""``train_batch_size`` for one batch of all likes: stock RecBole does not read 0 as that."""

TRAINER_KEYS = ("lr_milestones", "lr_gamma", "training_budget", "max_steps", "eval_every_steps")
"""Keys of ``SignedTrainer`` that RecBole's trainer does not read."""

METADATA = ("trainer_class", "parameter_ranges", "reads", *(each.name for each in fields(ModelFacts)))
"""Attributes of a model class that only the commands of this package ask for."""


@dataclass(frozen=True)
class ExportRecipe:
    """What is left out of one model, and what of it is told to the reader."""

    methods: tuple[str, ...] = ()
    """Methods that only a trainer or a loader of this package can call."""
    attributes: tuple[str, ...] = ()
    """Attributes set in ``__init__`` for these methods."""
    keys: tuple[str, ...] = ()
    """Their keys in the yaml."""
    rewordings: dict[str, str] = field(default_factory=dict)
    """What is said otherwise in the yaml's comments, where they speak of what is left out."""
    note: str = ""
    """Paragraph for the note beside the export."""
    refusal: str = ""
    """Why the model can't be exported; one sentence."""


def recipe_of(model: str) -> ExportRecipe:
    """Return a model's class attribute ``export_recipe``, else what ``recipes.yaml`` has for it; most need none."""
    ours = read_yaml(Path(__file__).with_name("recipes.yaml"))
    found = facts_of(model).export_recipe or next((ours[name] for name in lineage(model) if name in ours), {})
    given: dict[str, Any] = {key: tuple(each) if isinstance(each, list) else each for key, each in found.items()}
    return ExportRecipe(**given)
