"""Training that is interrupted, and goes on from its checkpoint."""

from collections.abc import Callable
from typing import Any

from prepared import trainer_of


def interrupted(build: Callable[..., Any]) -> Any:
    """Return what ``build`` gives, its model trained for three epochs, and for three more by another trainer."""
    first = build(epochs=3, checkpoint_dir="interrupted")
    trainer = trainer_of(first.config, first.model)
    trainer.fit(first.parts[0], None, saved=True, show_progress=False)  # without validation each epoch is saved
    second = build(epochs=6, resume=trainer.saved_model_file)
    trainer = trainer_of(second.config, second.model)
    assert trainer.start_epoch == 3
    trainer.fit(second.parts[0], second.parts[1], saved=False, show_progress=False)
    second.model.eval()
    return second
