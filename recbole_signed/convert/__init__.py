"""Raw files as RecBole atomic files with a sign: ``NAME.inter`` (or its parts), ``NAME.yaml`` and ``dataset.json``."""

import sys
from types import ModuleType
from typing import Any

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


class _Convert(ModuleType):
    """The package, which can be called: ``recbole_signed.convert`` is this package and the function of that name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__getattr__("convert")(*args, **kwargs)


sys.modules[__name__].__class__ = _Convert
