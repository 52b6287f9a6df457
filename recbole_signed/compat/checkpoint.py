"""Reading RecBole's checkpoints, which are pickles of its objects, without running what a pickle may ask for."""

from __future__ import annotations

import contextlib
import enum
import functools
import importlib.util
import logging
import os
import pickle
import types
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from recbole_signed.files import damage_of_archive

TRUSTED_ROOTS: set[str] = {"recbole", "recbole_gnn", "recbole_signed"}  # modules whose classes a checkpoint may hold

VOCABULARY = "vocabulary"  # key: how many users and items there are, and a hash of their ids in order
TRAINED_VOCABULARY = "trained_vocabulary"  # the same of the training, where a checkpoint was read


def check_archive(f: Any) -> None:
    """Raise `pickle.UnpicklingError` for no whole archive of RecBole: `torch.load` reads others, which run code."""
    import torch

    with open(f, "rb") if isinstance(f, str | os.PathLike) else contextlib.nullcontext(f) as file:
        start = file.tell()
        archive = file.read(4) == b"PK\x03\x04"
        file.seek(start)
        # asked of torch's own reader, since a crafted file may look different to two readers
        if not archive or "constants.pkl" in torch._C.PyTorchFileReader(file).get_all_records():
            raise pickle.UnpicklingError(
                f"'{f}' is not an archive as torch.save writes it for RecBole, so it was not loaded."
            )
        damage = damage_of_archive(file)
        if damage is not None:
            raise pickle.UnpicklingError(f"'{f}' is damaged ({damage}), so it was not loaded.")
        file.seek(start)


_CLASSES_BELOW = ("torch.nn.modules", "scipy.sparse")  # layers as in GRU4RecF; the matrices of EASE, ItemKNN
SPELLINGS = {"__builtin__": "builtins", "numpy.core.multiarray": "numpy._core.multiarray", "pathlib._local": "pathlib"}
"""What modules are called now, by the names that files have for them."""


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"This file spells bytes in '{encoding}', RecBole's checkpoints in latin1.")
    return text.encode("latin1")


def _defaultdict(factory: Any = None) -> defaultdict[Any, Any]:
    if factory not in (None, dict, float, int, list, set, str):
        raise pickle.UnpicklingError(f"This file holds a defaultdict of {factory!r}; a plain type was expected.")
    return defaultdict(factory)


def _below(module: str, roots: Iterable[str]) -> bool:
    return any(module == root or module.startswith(root + ".") for root in roots)


def _only_if(fits: Callable[[Any], bool], load: str) -> Callable[[Any], None]:
    """Return the unpickler's method of that name, for an unpickler that `fits`."""

    def checked(self: Any) -> None:
        if not fits(self):
            raise pickle.UnpicklingError(
                f"This file asks for something that loading RecBole's checkpoints never needs ({load} of that "
                "object), so it was not loaded."
            )
        getattr(pickle._Unpickler, load)(self)

    return checked


def _may_reduce(unpickler: Any) -> bool:
    # an object of a trusted class as an argument would have its methods called, which its state can redirect
    roots = (*TRUSTED_ROOTS, *_CLASSES_BELOW)
    called, arguments = unpickler.stack[-2:]
    plain = not any(_below(type(argument).__module__, roots) for argument in arguments)
    return id(called) in unpickler.callables and (plain or id(called) in unpickler.by_user)


def _may_build(unpickler: Any) -> bool:
    # not what exists already; and an *attribute* named __setstate__ would turn the filling into a call
    target = unpickler.stack[-2]
    by_attribute = hasattr(target, "__setstate__") and not hasattr(type(target), "__setstate__")
    shared = (type, enum.Enum, types.FunctionType, types.BuiltinFunctionType, logging.Logger)
    return not by_attribute and not isinstance(target, shared)


class UnknownNameError(pickle.UnpicklingError):
    """A file names a class or function that is not trusted; the message says what makes it so."""


class CheckpointUnpickler(pickle._Unpickler):
    """Rebuilds what RecBole's checkpoints hold, and calls nothing else.

    It is in Python, as the one in C cannot tell naming `Config` from calling it. Classes are recreated empty and
    filled; called are `called`, enums, and what the user gave to `torch.serialization.add_safe_globals`.
    """

    called: ClassVar[dict[str, str]] = {  # what rebuilding the values of a checkpoint calls, by module
        "builtins": "bytearray bytes complex frozenset range set slice",
        "collections": "Counter OrderedDict",
        "datetime": "date datetime time timedelta timezone",
        "numpy": "dtype",
        "numpy._core.multiarray": "_reconstruct scalar",
        "pathlib": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
        "torch": "Size device",
        "torch._utils": "_rebuild_parameter _rebuild_sparse_tensor _rebuild_tensor _rebuild_tensor_v2",
        "torch.serialization": "_get_layout",
    }
    named: ClassVar[dict[str, str]] = {  # what it may name or recreate, and never call
        "builtins": "bool dict float int list object str tuple",
        "numpy": "matrix ndarray",
        "torch": "Tensor UntypedStorage",
        "torch.nn.parameter": "Parameter",
        "torch.storage": "TypedStorage UntypedStorage",
        "yaml.loader": "FullLoader SafeLoader",  # Config keeps the class with which it read its files
    }
    replaced: ClassVar[dict[tuple[str, str], Callable[..., Any]]] = {
        ("_codecs", "encode"): _latin1,
        ("builtins", "xrange"): range,  # as protocol 2 calls it
        ("collections", "defaultdict"): _defaultdict,
        ("logging", "getLogger"): logging.getLogger,  # of layers, as in GRU4RecF
    }
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **pickle._Unpickler.dispatch,
        pickle.REDUCE[0]: _only_if(_may_reduce, "load_reduce"),
        pickle.BUILD[0]: _only_if(_may_build, "load_build"),
        pickle.NEWOBJ[0]: _only_if(lambda u: isinstance(u.stack[-2], type), "load_newobj"),
        pickle.NEWOBJ_EX[0]: _only_if(lambda u: isinstance(u.stack[-3], type), "load_newobj_ex"),
        pickle.APPEND[0]: _only_if(lambda u: isinstance(u.stack[-2], list), "load_append"),
        pickle.APPENDS[0]: _only_if(lambda u: isinstance(u.metastack[-1][-1], list), "load_appends"),
        pickle.ADDITEMS[0]: _only_if(lambda u: isinstance(u.metastack[-1][-1], set), "load_additems"),
        pickle.SETITEM[0]: _only_if(lambda u: isinstance(u.stack[-3], dict), "load_setitem"),
        pickle.SETITEMS[0]: _only_if(lambda u: isinstance(u.metastack[-1][-1], dict), "load_setitems"),
        pickle.OBJ[0]: _only_if(lambda _: False, "load_obj"),  # written by protocols 0 and 1 only
        pickle.INST[0]: _only_if(lambda _: False, "load_inst"),
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.callables: dict[int, Any] = {}
        self.by_user: dict[int, Any] = {}

    def load(self) -> Any:
        """Return what the file holds; a checkpoint's configuration then knows the vocabulary of the training."""
        content = super().load()
        settings = getattr(content.get("config"), "final_config_dict", None) if isinstance(content, dict) else None
        if isinstance(settings, dict) and settings.get(VOCABULARY):
            settings[TRAINED_VOCABULARY] = settings[VOCABULARY]
        return content

    def find_class(self, module: str, name: str, /) -> Any:
        """Return the object of that name; raise `pickle.UnpicklingError` if a checkpoint has no use for it."""
        import numpy as np
        import torch

        module = SPELLINGS.get(module, module)
        target: Any = self.replaced.get((module, name))
        if target is not None or name in self.called.get(module, "").split():
            return self._may_call(target or _resolve(module, name))
        if name in self.named.get(module, "").split():
            return _resolve(module, name)
        roots = (*TRUSTED_ROOTS, *_CLASSES_BELOW)
        if _below(module, roots):
            target = _resolve(module, name)
            if isinstance(target, type) and _below(target.__module__, roots):
                return self._may_call(target) if issubclass(target, enum.Enum) else target
        if module == "torch" and isinstance(target := vars(torch).get(name), torch.dtype):
            return target
        target = vars(np).get(name) if module == "numpy" else None
        if isinstance(target, type) and issubclass(target, np.generic):
            return target
        for entry in torch.serialization.get_safe_globals():
            named = entry if isinstance(entry, tuple) else (entry, f"{entry.__module__}.{entry.__qualname__}")
            target, path = named
            if path == f"{module}.{name}":
                self.by_user[id(target)] = target
                return self._may_call(target)
        raise UnknownNameError(
            f"This file names '{module}.{name}', which RecBole's own checkpoints do not hold, so it was not "
            "loaded; if you trust the file, register the model first (register_model, --import), allow the name with "
            "torch.serialization.add_safe_globals, or your package with recbole_signed.compat.checkpoint.TRUSTED_ROOTS."
        )

    def _may_call(self, target: Any) -> Any:
        self.callables[id(target)] = target
        return target


def _resolve(module: str, name: str) -> Any:
    if module.startswith("numpy._core") and importlib.util.find_spec("numpy._core") is None:
        module = module.replace("numpy._core", "numpy.core")  # its name in NumPy 1
    return functools.reduce(getattr, name.split("."), importlib.import_module(module))


CHECKPOINT_PICKLE = types.SimpleNamespace(__name__=__name__, Unpickler=CheckpointUnpickler)
