"""What is in a signed data set and what is wrong with it: numbers and figures, from its atomic files or from arrays."""

from recbole_signed.stats.report import analyse
from recbole_signed.stats.rows import RawRows, read_rows

__all__ = ["RawRows", "analyse", "read_rows"]
