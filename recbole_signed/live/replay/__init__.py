"""Replay of an event stream: predict a window, learn from it, compare online updates with retraining."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
