from .tradeoff_curve import tradeoff as tradeoff
from .tradeoff_tables import matched as matched
from .user_segments import segments as segments
