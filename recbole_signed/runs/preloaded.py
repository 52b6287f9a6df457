"""What the process has imported from which runs are forked; nothing is computed here, as threads would start."""

import gc
from contextlib import suppress

with suppress(Exception):  # what can't be imported is told by the run that needs it
    import recbole_signed.runs.runner
    import recbole_signed.ssf.ssf  # noqa: F401

gc.freeze()  # a collection in a child would otherwise copy the pages of all that was imported
