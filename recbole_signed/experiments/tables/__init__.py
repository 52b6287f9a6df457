"""Tables of runs: their specification, execution, rendering, and tests of significance."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
