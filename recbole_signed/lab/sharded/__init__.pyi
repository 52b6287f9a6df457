from .sharded_fit import fit_graph as fit_graph
from .sharded_fit import fit_shards as fit_shards
