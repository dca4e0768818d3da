"""Memory that a step has freed stays with the process: the next step takes it again, and the system need not clear it.

glibc hands freed blocks of 32 MB and more, and what is free at the end of its heap, back to the system at once; each
page that is asked for again costs a fault and 4 KB of zeros. A training step frees and takes its activations again and
again: that was a fifth of the time of a small model's step (docs/performance.md).
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from typing import Final

M_TRIM_THRESHOLD: Final = -1  # <malloc.h>
M_MMAP_THRESHOLD: Final = -3
MAX_FREE_BYTES: Final = 2**31 - 1  # bytes that may be free at the end of the heap: the largest that mallopt takes
MAX_HEAP_BLOCK: Final = 2**30  # bytes of a block that comes from the heap
USER_SETTINGS: Final = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")


@cache
def keep_freed_memory() -> bool:
    """Let this process keep what it frees; whether that was possible: glibc, and the user has not set it otherwise."""
    if sys.platform != "linux" or any(name in os.environ for name in USER_SETTINGS):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, MAX_HEAP_BLOCK)) and bool(mallopt(M_TRIM_THRESHOLD, MAX_FREE_BYTES))
