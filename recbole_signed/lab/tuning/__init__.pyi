from .plan import Plan as Plan
from .tuned_table import tune_table as tune_table
