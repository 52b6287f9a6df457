from .sharded_filter import fit_graph as fit_graph
from .sharded_filter import fit_shards as fit_shards
from .sharded_fit import load_filter as load_filter
from .sharded_fit import main as main
from .sharded_fit import save_filter as save_filter
