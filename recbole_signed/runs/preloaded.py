"""What the process has imported from which runs are forked.

Nothing is computed here: torch and polars start their threads with the first computation, and the threads that
allocators and OpenBLAS start when they are imported are known to survive a fork.
"""

import gc
from contextlib import suppress

with suppress(Exception):  # what can't be imported is told by the run that needs it
    import recbole_signed.runs.runner
    import recbole_signed.ssf.ssf  # noqa: F401

gc.freeze()  # a collection in a child would otherwise copy the pages of all that was imported
