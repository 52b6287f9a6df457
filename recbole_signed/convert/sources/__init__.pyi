from .movielens_100k import ensure_ml100k as ensure_ml100k
from .toy import Planted as Planted
from .toy import planted as planted
from .zvuk import Options as Options
