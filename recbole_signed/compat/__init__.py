"""RecBole on today's stack: one repair per fault, safe reading of checkpoints, arguments."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
