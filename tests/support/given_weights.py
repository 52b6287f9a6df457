"""Weights of SSF-T that tests give it: no feature has none, and users without a verdict have others."""

WEIGHTS = [
    *(0.3, -0.2, 0.1, 0.25, 0.15, 0.2, -0.1),
    *(0.9, 0.6, 0.5, -0.2, 0.3, 0.2, 0.4, 0.5),
    *(0.6, 0.1, -0.1, 0.3, -0.2, 0.2, 0.1),
]
"""By ``order.WEIGHTS``."""
