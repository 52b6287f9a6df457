from .run_config import make_config as make_config
from .run_config import split_of as split_of
