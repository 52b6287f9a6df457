from .chebyshev import leading_factors as leading_factors
from .shards import Shards as Shards
from .shards import write_shards as write_shards
from .signed_graph import SignedGraph as SignedGraph
from .spectral import aversion_factors as aversion_factors
from .spectral import like_rates as like_rates
from .top_scores import LONG as LONG
