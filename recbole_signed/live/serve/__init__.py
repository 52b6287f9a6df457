"""The service: recommendations over HTTP that follow every event, live quality, experiments on traffic."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
