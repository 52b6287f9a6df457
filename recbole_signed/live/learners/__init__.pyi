from .base import make_learner as make_learner
