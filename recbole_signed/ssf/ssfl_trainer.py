"""The trainer of SSF-L, which is that of SSF."""

from __future__ import annotations

from recbole_signed.ssf.ssf_trainer import SSFTrainer


class SSFLTrainer(SSFTrainer):
    """Lets the model choose its parameters on validation, and fits it once."""
