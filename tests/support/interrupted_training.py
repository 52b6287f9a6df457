"""Training that is interrupted, and goes on from its checkpoint."""

from collections.abc import Callable
from typing import Any

from recbole.utils import get_trainer


def interrupted(build: Callable[..., Any]) -> Any:
    """Return what ``build`` gives, its model trained for three epochs, and for three more by another trainer."""

    def trainer_of(built: Any) -> Any:
        return get_trainer(built.config["MODEL_TYPE"], built.config["model"])(built.config, built.model)

    first = build(epochs=3, checkpoint_dir="interrupted")
    trainer = trainer_of(first)
    trainer.fit(first.parts[0], None, saved=True, show_progress=False)  # without validation each epoch is saved
    second = build(epochs=6, resume=trainer.saved_model_file)
    trainer = trainer_of(second)
    assert trainer.start_epoch == 3
    trainer.fit(second.parts[0], second.parts[1], saved=False, show_progress=False)
    second.model.eval()
    return second
