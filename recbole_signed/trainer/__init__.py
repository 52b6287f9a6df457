"""The trainer of gradient-trained models: budgets, milestones, checkpoints that a run continues from."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
