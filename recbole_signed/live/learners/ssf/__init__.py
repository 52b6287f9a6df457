"""What goes on learning with SSF, SSF-L and SSF-T from events, and chooses their settings on a stream."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
