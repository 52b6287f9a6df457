from .explanations import ItemExplanation as ItemExplanation
from .fitting import fit as fit
from .interactions import Interactions as Interactions
from .interactions import from_frame as from_frame
from .recommender import Recommender as Recommender
from .saved import load as load
from .streams import replay as replay
