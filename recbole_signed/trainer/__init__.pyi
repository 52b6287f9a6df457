from .signed_trainer import SignedTrainer as SignedTrainer
from .signed_trainer import rng_state as rng_state
from .signed_trainer import set_rng_state as set_rng_state
