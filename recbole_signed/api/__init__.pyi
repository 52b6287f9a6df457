from .bulk import write_feedback as write_feedback
from .fitting import fit as fit
from .item_names import read_item_names as read_item_names
from .loading import load as load
