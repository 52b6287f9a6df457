"""The parameters of what SSF-T knows of time."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np

from recbole_signed.errors import UsageError
from recbole_signed.ssf.settings import NumberSettings

SCALES = ("short_scale", "middle_scale", "long_scale")


@dataclass(frozen=True)
class TimeSettings(NumberSettings):
    """Parameters of transition and trend; in brackets their letters in the formulas.

    Raises:
        UsageError: a value is out of its range.
    """

    transition_share: float = 0.5
    """[b] Length of the transition's part of a user against that of the taste's; 0: no transition."""
    transition_rank: int = 128
    """[k'] Leading singular vectors that transitions are learned on."""
    transition_ridge: float = 0.03
    """[l] Regularisation, as a part of the mean square of a source."""
    short_scale: float = 2.0
    """[tau] Number of events after which an event counts 1/e; 0: the scale is left out."""
    middle_scale: float = 10.0
    """The same of the second scale."""
    long_scale: float = 50.0
    """The same of the third scale."""
    half_life: float = 1.0
    """[h] Days after which an exposure counts half."""
    trend_exponent: float = 0.7
    """[eps] Tastes and transitions are multiplied by the trend to this power."""
    recent_popularity: float = 1.0
    """[omega] Likes are multiplied by the trend to this power in the share of popularity."""
    trend_smoothing: float = 2.0
    """[m] Exposures of now of the mean trend, 1, that are added to those of each item."""

    def __post_init__(self) -> None:
        values = asdict(self)
        for name, value in values.items():
            if not (np.isfinite(value) and value >= 0):
                raise UsageError(f"{name} is {value}; it must be a finite number of 0 or more.")
        for name in ("transition_rank", "half_life", "transition_ridge", "trend_smoothing"):
            if not values[name] > 0:
                raise UsageError(f"{name} is {values[name]}; it must be above 0.")
        if not self.scales:
            raise UsageError(f"{', '.join(SCALES)} are all 0; give one, or set transition_share: 0.")

    @property
    def scales(self) -> tuple[float, ...]:
        """The time scales in use, in events."""
        return tuple(scale for scale in (self.short_scale, self.middle_scale, self.long_scale) if scale)

    @property
    def tells(self) -> bool:
        """Whether time changes any score."""
        return bool(self.transition_share or self.trend_exponent or self.recent_popularity)

    def without_time(self) -> TimeSettings:
        """Return settings with which scores are those of SSF."""
        return replace(self, transition_share=0.0, trend_exponent=0.0, recent_popularity=0.0)
