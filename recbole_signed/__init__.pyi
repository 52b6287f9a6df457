from .api.fitting import fit as fit
from .api.interactions import Interactions as Interactions
from .api.interactions import from_frame as from_frame
from .api.loading import load as load
from .api.recommender import Recommender as Recommender
from .convert.build import convert as convert
from .data.dataset import SignedDataset as SignedDataset
from .errors import UsageError as UsageError
from .evaluation.metrics import register_metric as register_metric
from .graph.signed_graph import SignedGraph as SignedGraph
from .lab.tuning.search import tune as tune
from .live.events import Event as Event
from .live.replay.stream_run import replay as replay
from .live.trainer import OnlineTrainer as OnlineTrainer
from .plugin.registry import register_model as register_model
from .runs.comparison import compare as compare
from .runs.runner import run as run

__version__: str
