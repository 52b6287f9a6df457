"""Recommenders for signed graphs: one file per published model, named after the lower-cased class."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
