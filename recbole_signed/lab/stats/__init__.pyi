from .report import analyse as analyse
from .report import statistics_table as statistics_table
