from .bulk import read_item_names as read_item_names
from .bulk import write_feedback as write_feedback
from .fitting import fit as fit
from .loading import load as load
