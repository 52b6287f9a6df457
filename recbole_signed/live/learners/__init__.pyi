from .make import make_learner as make_learner
