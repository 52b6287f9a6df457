from .responsiveness import has_learner as has_learner
from .responsiveness import overlap as overlap
from .responsiveness import respond as respond
from .responsiveness import respond_all as respond_all
from .responsiveness_table import draw_responses as draw_responses
from .responsiveness_table import respond_rows as respond_rows
from .responsiveness_table import respond_table as respond_table
