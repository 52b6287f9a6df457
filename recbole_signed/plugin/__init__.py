"""What makes this package known to RecBole: hooks, the registry of models, the configuration."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
