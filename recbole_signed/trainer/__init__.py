"""Trainers of models that need one of their own: `<lower name>_trainer.py` with a class `<Name>Trainer`."""
