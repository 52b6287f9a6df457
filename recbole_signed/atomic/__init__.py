"""The one reader of ``.inter`` files: columns, ids, signs and times of a data set, by the settings of its yaml.

``run``, ``stats``, ``replay`` and the online state read through it. It knows neither torch nor RecBole.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
