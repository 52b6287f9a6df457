"""What is in a signed data set and what is wrong with it: numbers and figures, from its atomic files or from arrays."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
