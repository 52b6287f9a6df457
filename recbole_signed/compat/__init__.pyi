from .arguments import own_arguments_hidden as own_arguments_hidden
from .checkpoint import CHECKPOINT_PICKLE as CHECKPOINT_PICKLE
from .checkpoint import TRAINED_VOCABULARY as TRAINED_VOCABULARY
from .checkpoint import VOCABULARY as VOCABULARY
from .checkpoint import check_archive as check_archive
from .curves import no_training_curves as no_training_curves
from .curves import tensorboard as tensorboard
from .log import each_warning_once as each_warning_once
