from .backup import back_up as back_up
from .vocabulary import Vocabulary as Vocabulary
