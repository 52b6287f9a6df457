"""RecBole 1.2.x on the current stack: one function per fault, applied after the import of a module, where it is needed.

RecBole's last release predates NumPy 2, SciPy 1.13, torch 2.6 and pandas 3. Each repair names its place and its
upstream issue. This module imports neither torch nor RecBole, numpy, scipy, pandas or ray.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.abc
import inspect
import os
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from recbole_signed.compat import file_values
from recbole_signed.compat.checkpoint import CHECKPOINT_PICKLE, check_archive
from recbole_signed.errors import UsageError

APPLIED: dict[str, str] = {}  # name of each repair that changed something in this process, and why
_OWN_CODE = frozenset({"recbole", "recbole_gnn", "recbole_signed"})  # whose calls of torch.load are served


# ---- imports that RecBole asks for and does not need ----


class _StandIns(importlib.abc.MetaPathFinder):
    """Runs chosen modules with a stand-in for one of their imports, in `sys.modules` only while they are executed."""

    def __init__(self) -> None:
        # module: (what to import first, function that gives the stand-ins by name)
        self.served: dict[str, tuple[tuple[str, ...], Callable[[], dict[str, ModuleType]]]] = {}
        self._searching: set[str] = set()

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname not in self.served or fullname in self._searching:
            return None
        self._searching.add(fullname)  # the other finders may ask the import system again, and so this one
        try:
            specs = (finder.find_spec(fullname, path, target) for finder in sys.meta_path if finder is not self)
            spec = next((spec for spec in specs if spec is not None), None)
        finally:
            self._searching.discard(fullname)
        if spec is not None and spec.loader is not None:
            # a loader of our own: the real one may be wrapped by other import hooks (wrapt's proxy hands an
            # attribute set on it through to the object behind it, and would call itself without end)
            spec.loader = _StandInLoader(spec.loader, functools.partial(self._execute, spec.loader.exec_module))
        return spec

    def _execute(self, execute: Callable[[ModuleType], None], module: ModuleType) -> None:
        before, stand_ins = self.served[module.__name__]
        for name in before:
            importlib.import_module(name)
        with _in_sys_modules(stand_ins()):
            execute(module)

    def serve(self, module: str, before: tuple[str, ...], make: Callable[[], dict[str, ModuleType]]) -> None:
        self.served[module] = (before, make)
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)


class _StandInLoader(importlib.abc.Loader):
    """The real loader, but for how it runs the module."""

    def __init__(self, loader: Any, execute: Callable[[ModuleType], None]) -> None:
        self._loader, self._execute = loader, execute

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_loader"], name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Leave it to the real loader."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module with its stand-ins."""
        self._execute(module)


_stand_ins = _StandIns()


@contextlib.contextmanager
def _in_sys_modules(modules: dict[str, ModuleType]) -> Iterator[None]:
    hidden = {name: sys.modules[name] for name in modules if name in sys.modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            sys.modules.pop(name, None)
        sys.modules.update(hidden)


def ray_optional(_recbole: ModuleType) -> None:
    """`recbole.quick_start` imports `ray.tune` for one call of `tune.report` (quick_start.py:20, :223).

    RecBole issues #2215, #2174, #1820. quick_start gets a stand-in whose `report` hands the metrics to the real
    `ray.tune`, which takes a dict now, if that has been imported, as in every Ray trial.
    """
    before = ("torch.distributed", "recbole.utils", "recbole.config", "recbole.data", "recbole.data.transform")
    _stand_ins.serve("recbole.quick_start.quick_start", before, _ray_stand_in)


def _ray_stand_in() -> dict[str, ModuleType]:
    ray, tune = ModuleType("ray"), ModuleType("ray.tune")
    ray.tune, tune.report = tune, _report_to_ray  # type: ignore[attr-defined]
    APPLIED["ray_optional"] = "recbole.quick_start imports ray.tune, which only a trial of Ray Tune needs"
    return {"ray": ray, "ray.tune": tune}


def _report_to_ray(**metrics: Any) -> None:
    tune = sys.modules.get("ray.tune")
    if tune is None:
        return
    kinds = {parameter.kind for parameter in inspect.signature(tune.report).parameters.values()}
    if inspect.Parameter.VAR_KEYWORD in kinds:
        tune.report(**metrics)
    else:
        tune.report(metrics)


def sklearn_when_called(_recbole: ModuleType) -> None:
    """`recbole.evaluator.metrics` imports scikit-learn for AUC, MAE, RMSE (metrics.py:29-30): a second a start."""
    if "sklearn.metrics" not in sys.modules:
        before = ("recbole.utils", "recbole.evaluator.utils", "recbole.evaluator.base_metric")
        _stand_ins.serve("recbole.evaluator.metrics", before, _sklearn_stand_in)


def _sklearn_stand_in() -> dict[str, ModuleType]:
    sklearn, metrics = ModuleType("sklearn"), ModuleType("sklearn.metrics")
    for name in ("auc", "mean_absolute_error", "mean_squared_error"):
        setattr(metrics, name, functools.partial(_call_sklearn, name))
    sklearn.metrics = metrics  # type: ignore[attr-defined]
    APPLIED["sklearn_when_called"] = "recbole.evaluator.metrics imports scikit-learn, which three metrics need"
    return {"sklearn": sklearn, "sklearn.metrics": metrics}


def _call_sklearn(name: str, *args: Any, **kwargs: Any) -> Any:
    return getattr(importlib.import_module("sklearn.metrics"), name)(*args, **kwargs)


def torch_sparse_optional(_package: ModuleType) -> None:
    """`recbole_gnn.model.layers` imports `torch_sparse.matmul` unconditionally (layers.py:5); it has no wheel."""
    _stand_ins.serve("recbole_gnn.model.layers", ("torch_geometric.nn",), _torch_sparse_stand_in)


def _torch_sparse_stand_in() -> dict[str, ModuleType]:
    try:
        importlib.import_module("torch_sparse")
    except Exception as error:  # also OSError: a wheel built for another torch
        for name in [module for module in sys.modules if module.split(".")[0] == "torch_sparse"]:
            del sys.modules[name]
        stand_in = ModuleType("torch_sparse")
        stand_in.matmul = _no_torch_sparse  # type: ignore[attr-defined]
        APPLIED["torch_sparse_optional"] = f"torch_sparse cannot be imported ({type(error).__name__}: {error})"
        return {"torch_sparse": stand_in}
    return {}


def _no_torch_sparse(*_args: Any, **_kwargs: Any) -> None:
    raise ImportError("This product of RecBole-GNN needs torch_sparse: install it, or set enable_sparse: False.")


# ---- numpy, scipy, pandas ----


def numpy_names(_utils: ModuleType) -> None:
    """Names that RecBole reads and that numpy 1.24 and 2.0 removed: RecBole issues #2174, #2215, #1604; GNN #88.

    `Config.compatibility_settings` defines some of them too, but a process that begins with `load_data_and_model` has
    none.
    """
    import numpy as np

    names: dict[str, Any] = {"float_": np.float64, "complex_": np.complex128, "unicode_": np.str_}
    names |= {"float": np.float64, "bool": np.bool_, "long": np.int_, "str": np.str_}
    missing = [name for name in names if name not in vars(np)]
    for name in missing:
        setattr(np, name, names[name])
    if missing:
        APPLIED["numpy_names"] = f"numpy {np.__version__} has no {', '.join('np.' + name for name in missing)}"


def dok_update(_abstract_recommender: ModuleType) -> None:
    """SciPy 1.13 removed `dok_matrix._update`, by which five models build their graph: RecBole issues #2034, #2090."""
    import scipy
    from scipy.sparse import dok_matrix

    if not hasattr(dok_matrix, "_update"):
        dok_matrix._update = lambda self, entries: self._dict.update(entries)
        APPLIED["dok_update"] = f"scipy {scipy.__version__} has no dok_matrix._update, which LightGCN and others call"
    warnings.filterwarnings("ignore", r"torch\.sparse\.SparseTensor", UserWarning, r"recbole\.model")


def refuse_pandas_3(_data: ModuleType) -> None:
    """Under copy-on-write RecBole's fills in place (dataset.py:501, :648, :650) do nothing, without an error."""
    import pandas as pd

    frame = pd.DataFrame({"rating": [float("nan")]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas warns of what is tried here
        frame["rating"].fillna(0.0, inplace=True)
    if frame["rating"].isna().any():
        cure = "pip install 'pandas<3'" if int(pd.__version__.split(".")[0]) >= 3 else "switch that off"
        raise UsageError(
            f"pandas {pd.__version__} with copy-on-write silently leaves RecBole's missing values unfilled, so "
            f"RecBole is not loaded: {cure}."
        )
    # pandas 2 warns of each such fill, and here it works
    warnings.filterwarnings("ignore", "A value is trying to be set", FutureWarning, r"recbole\.data\.dataset")


# ---- evaluation and tuning ----


def collector_plain_values(module: ModuleType) -> None:
    """ItemCoverage and others crash on an int or a Counter: RecBole issue #2194 (1.2.1, collector.py:226-227)."""
    original = module.Collector.get_data_struct
    probe = module.DataStruct()
    probe.set("data.num_items", 1)
    try:
        original(types.SimpleNamespace(data_struct=probe))
        return
    except AttributeError:
        APPLIED["collector_plain_values"] = "RecBole's collector of evaluation data takes plain counts for tensors"

    @functools.wraps(original)
    def get_data_struct(self: Any) -> Any:
        data = self.data_struct._data_dict
        plain = {name: data.pop(name) for name in list(data) if not hasattr(data[name], "cpu")}
        try:
            collected = original(self)
        finally:
            data.update(plain)
        collected._data_dict.update(plain)
        return collected

    module.Collector.get_data_struct = get_data_struct


def exhaustive_search(module: ModuleType) -> None:
    """`HyperTuning(algo="exhaustive")` under hyperopt >= 0.2.7: RecBole issues #1868, #1240 (hyper_tuning.py:117)."""
    original = module.exhaustive_search

    @functools.wraps(original)
    def search(*args: Any, **kwargs: Any) -> Any:
        import numpy as np

        stochastic = importlib.import_module("hyperopt.pyll.stochastic")
        if "integers" not in stochastic.randint.__code__.co_names:
            return original(*args, **kwargs)
        APPLIED["exhaustive_search"] = "this hyperopt draws from a numpy Generator, RecBole gives it a RandomState"
        # the same code with another np.random.RandomState; it uses nothing else of numpy
        random = types.SimpleNamespace(RandomState=np.random.default_rng)
        scope = {**original.__globals__, "np": types.SimpleNamespace(random=random)}
        return types.FunctionType(original.__code__, scope, argdefs=original.__defaults__)(*args, **kwargs)

    module.exhaustive_search = search  # type: ignore[attr-defined]


# ---- training ----


def amp_names(trainer: ModuleType) -> None:
    """RecBole's trainers use `torch.cuda.amp` (trainer.py:235, :1440, :1453): a warning an epoch since torch 2.4."""
    import torch

    if not hasattr(torch.amp, "GradScaler"):
        return
    trainer.amp = types.SimpleNamespace(  # type: ignore[attr-defined]
        GradScaler=functools.partial(torch.amp.GradScaler, "cuda"), autocast=functools.partial(torch.autocast, "cuda")
    )
    APPLIED["amp_names"] = f"torch {torch.__version__} warns of torch.cuda.amp"


def anomaly_detection_off(_: ModuleType) -> None:
    """SINE's module (sine.py:25) turns torch's anomaly detection on: every later training of the process is slower."""
    import torch

    if torch.is_anomaly_enabled():
        torch.autograd.set_detect_anomaly(False)
        APPLIED["anomaly_detection_off"] = "RecBole's SINE turns anomaly detection on for all models"


def training_curves_folder(utils: ModuleType) -> None:
    """RecBole's writer of training curves has a relative path (utils.py:208), which its thread opens at every flush."""
    original = utils.SummaryWriter

    def at_absolute_path(writer: Callable[..., Any], log_dir: str, *args: Any, **kwargs: Any) -> Any:
        return writer(os.path.abspath(log_dir), *args, **kwargs)

    utils.SummaryWriter = functools.partial(at_absolute_path, original)  # type: ignore[attr-defined]
    APPLIED["training_curves_folder"] = "RecBole's training curves are lost when the current folder changes"


def folders_made_at_once(utils: ModuleType) -> None:
    """Two runs that start at once in a new folder: one fails with FileExistsError, both make `log/` (utils.py:44)."""

    @functools.wraps(utils.ensure_dir)
    def ensure_dir(dir_path: str) -> None:
        os.makedirs(dir_path, exist_ok=True)

    utils.ensure_dir = ensure_dir  # type: ignore[attr-defined]
    APPLIED["folders_made_at_once"] = "RecBole's runs that start at once fail over the folders that both make"


def flops_of_one_row(utils: ModuleType) -> None:
    """FLOPs are counted on the second row (utils.py:295): an IndexError where the data has one row."""
    original = utils.get_flops

    @functools.wraps(original)
    def get_flops(model: Any, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        if len(dataset) == 1:
            dataset = dataset.copy(dataset.inter_feat.repeat(2))
        return original(model, dataset, *args, **kwargs)

    utils.get_flops = get_flops  # type: ignore[attr-defined]
    APPLIED["flops_of_one_row"] = "RecBole counts FLOPs on the second row of data"


def dgcf_small_samples(dgcf: ModuleType) -> None:
    """DGCF draws as many users as items (dgcf.py:50), a ValueError where data of few batches have fewer of one side."""

    def sample_cor_samples(n_users: int, n_items: int, cor_batch_size: int) -> tuple[list[int], list[int]]:
        users, items = (dgcf.rd.sample(range(n), min(n, cor_batch_size)) for n in (n_users, n_items))
        return users, items

    dgcf.sample_cor_samples = sample_cor_samples  # type: ignore[attr-defined]
    APPLIED["dgcf_small_samples"] = "RecBole's DGCF draws more users or items than small data have"


def streams_wrapped_once(logger: ModuleType) -> None:
    """Each run wraps standard output once more (logger.py:74, `colorama.init`): a RecursionError after 330 runs."""
    original = logger.init
    initialise = importlib.import_module("colorama.initialise")

    @functools.wraps(original)
    def init(*args: Any, **kwargs: Any) -> None:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is not None and stream is getattr(initialise, f"wrapped_{name}"):
                setattr(sys, name, getattr(initialise, f"orig_{name}"))
        original(*args, **kwargs)

    logger.init = init  # type: ignore[attr-defined]
    APPLIED["streams_wrapped_once"] = "RecBole wraps standard output once more with each run"


def saved_loaders_keep_their_order(module: ModuleType) -> None:
    """A run with `save_dataloaders: True` gives other results, as it loses its seeded generators (data/utils.py:91)."""
    original = module.save_split_dataloaders

    @functools.wraps(original)
    def save(config: Any, dataloaders: Any) -> None:
        generators = [(loader, loader.generator, getattr(loader.sampler, "generator", None)) for loader in dataloaders]
        original(config, dataloaders)
        for loader, own, of_sampler in generators:
            loader.generator, loader.sampler.generator = own, of_sampler

    module.save_split_dataloaders = save  # type: ignore[attr-defined]
    APPLIED["saved_loaders_keep_their_order"] = "RecBole's save_dataloaders changes the order of training rows"


# ---- checkpoints ----


def checkpoint_loading(_utils: ModuleType) -> None:
    """RecBole's checkpoints hold a pickled `Config`, which torch >= 2.6 refuses to load: RecBole issues #2215, #2212.

    `torch.serialization.add_safe_globals` cannot help, as torch's restricted unpickler does not read pickle protocol
    4. A call of `torch.load` from RecBole's or our code that leaves `weights_only` open is read by
    `CheckpointUnpickler`.
    """
    import torch

    original = torch.load

    @functools.wraps(original)
    def load(f: Any, *args: Any, **kwargs: Any) -> Any:
        own = sys._getframe(1).f_globals.get("__name__", "").split(".")[0] in _OWN_CODE
        decided = kwargs.get("weights_only") is not None or kwargs.get("pickle_module") or len(args) > 1
        strict = os.getenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "0").lower() in {"1", "y", "yes", "true"}
        if not own or decided or strict:
            return original(f, *args, **kwargs)
        check_archive(f)
        return original(f, *args, **(kwargs | {"weights_only": False, "pickle_module": CHECKPOINT_PICKLE}))

    torch.load = load
    APPLIED["checkpoint_loading"] = f"torch {torch.__version__} refuses RecBole's checkpoints, or runs code in them"


# ---- what runs when ----

REPAIRS: dict[str, tuple[Callable[[ModuleType], None], ...]] = {
    # RecBole-GNN has no __init__.py, and the import of such a package fires no hook; that of RecBole does
    "recbole": (ray_optional, torch_sparse_optional, sklearn_when_called),
    "recbole_gnn": (torch_sparse_optional,),
    "recbole.utils": (numpy_names, checkpoint_loading),
    "recbole.utils.utils": (training_curves_folder, folders_made_at_once, flops_of_one_row),
    "recbole.utils.logger": (streams_wrapped_once,),
    "recbole.data": (refuse_pandas_3,),
    "recbole.evaluator.collector": (collector_plain_values,),
    "recbole.model.abstract_recommender": (dok_update,),
    "recbole.model.sequential_recommender.sine": (anomaly_detection_off,),
    "recbole.trainer.hyper_tuning": (exhaustive_search, file_values.search_spaces_are_literals),
    "recbole.config.configurator": (file_values.settings_are_literals,),
    "recbole.data.utils": (file_values.cached_data_is_checked, saved_loaders_keep_their_order),
    "recbole.model.context_aware_recommender.kd_dagfm": (file_values.teacher_is_a_class,),
    "recbole.model.general_recommender.dgcf": (dgcf_small_samples,),
    "recbole.model.general_recommender.ldiffrec": (file_values.arrays_hold_no_pickles,),
    "recbole.trainer.trainer": (amp_names,),
}
"""The repairs by the module right after whose import they run; each receives that module."""


def apply(module_name: str, module: ModuleType) -> None:
    """Run the repairs that `REPAIRS` has for that module, each once."""
    done = vars(module).setdefault("_recbole_signed_repairs", set())
    for repair in REPAIRS.get(module_name, ()):
        if repair not in done:
            done.add(repair)
            repair(module)
