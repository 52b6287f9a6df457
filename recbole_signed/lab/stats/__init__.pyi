from .report import analyse as analyse
from .text import statistics_table as statistics_table
