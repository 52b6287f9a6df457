"""How models follow a stream: update, refresh and refit for each kind of model."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
