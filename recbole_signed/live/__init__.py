"""The live system: events, the durable store, the learners that follow it, the recommender and its service."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
