from .search import tune_table as tune_table
from .study import Plan as Plan
