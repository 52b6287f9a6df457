from .events import LIKE as LIKE
from .events import Event as Event
from .events import EventBatch as EventBatch
from .recommender import OnlineRecommender as OnlineRecommender
from .trainer import OnlineTrainer as OnlineTrainer
