from .pairwise_lines import pairwise_table as pairwise_table
from .pairwise_tests import significance as significance
