from .sharded_filter import fit_graph as fit_graph
from .sharded_filter import fit_shards as fit_shards
