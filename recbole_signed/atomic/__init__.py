"""The one reader of ``.inter`` files: columns, ids, signs and times of a data set. No torch, no RecBole."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
