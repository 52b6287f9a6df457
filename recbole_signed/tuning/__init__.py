"""Choosing hyper-parameters on validation: spaces, trials in processes, a study that goes on where it stopped."""
