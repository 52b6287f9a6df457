"""What differs in stock RecBole: keys that only this package's trainers read, and parts of models for them alone."""

from __future__ import annotations

from dataclasses import dataclass, field

ALL_IN_ONE_BATCH = 1_000_000_000
"""``train_batch_size`` for one batch of all likes: stock RecBole does not read 0 as that."""

TRAINER_KEYS = ("lr_milestones", "lr_gamma", "training_budget", "max_steps", "eval_every_steps")
"""Keys of ``SignedTrainer`` that RecBole's trainer does not read."""

METADATA = ("family", "source", "uses_dislikes", "needs_sign", "trainer_class")
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
    """Paragraph for CONTRIBUTION.md."""
    refusal: str = ""
    """Why the model can't be exported; one sentence."""


_SELF_TUNED = ExportRecipe(
    methods=("tune", "_choose"),
    attributes=("auto", "tune_users", "valid_metric"),
    keys=("auto", "tune_users"),
    rewordings={", never chosen": ""},
    note=(
        "The choice of parameters on the validation part (`auto`) needs a trainer of its own and stays behind: the "
        "values of the yaml hold. Use RecBole's hyper-parameter tuning."
    ),
)
_EXACT_TIMES = ExportRecipe(
    refusal="it needs exact times of likes and dislikes, which RecBole rounds to 64 or 128 seconds; export SSF."
)
RECIPES: dict[str, ExportRecipe] = {"SSF": _SELF_TUNED, "SSFL": _SELF_TUNED, "SSFT": _EXACT_TIMES}


def recipe_of(model: str) -> ExportRecipe:
    """Return the recipe of a model; most need none."""
    return RECIPES.get(model, ExportRecipe())
