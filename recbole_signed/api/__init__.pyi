from .fitting import fit as fit
from .interactions import Interactions as Interactions
from .interactions import from_frame as from_frame
from .recommender import Recommender as Recommender
from .streams import replay as replay
