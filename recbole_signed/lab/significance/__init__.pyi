from .kept_tests import kept_outcomes as kept_outcomes
from .pairwise_lines import leads_table as leads_table
from .pairwise_lines import pairwise_table as pairwise_table
from .pairwise_tests import significance as significance
