from .plan import Plan as Plan
from .search import tune_table as tune_table
