"""The trainer of gradient-trained models: budgets, milestones, checkpoints that a run continues from."""
