"""Choice of parameters on validation data, for any model, with the same budget."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
