"""Makes glibc's malloc keep freed memory, so that the next training step reuses it without page faults.

By default glibc returns freed blocks of 32 MB and more, and the free end of its heap, to the operating system; every
page allocated again costs a fault and 4 KB of zeroing. A training step frees and allocates its activations each time:
this took a fifth of a small model's step (docs/performance.md).
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from typing import Final

M_TRIM_THRESHOLD: Final = -1  # <malloc.h>
M_MMAP_THRESHOLD: Final = -3
MAX_FREE_BYTES: Final = 2**31 - 1  # free bytes kept at the end of the heap: the largest value mallopt accepts
MAX_HEAP_BLOCK: Final = 2**30  # bytes: smaller blocks come from the heap, not from mmap
USER_SETTINGS: Final = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")


@cache
def keep_freed_memory() -> bool:
    """Keep freed memory in this process. False without glibc, or if the user configured the allocator."""
    if sys.platform != "linux" or any(name in os.environ for name in USER_SETTINGS):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, MAX_HEAP_BLOCK)) and bool(mallopt(M_TRIM_THRESHOLD, MAX_FREE_BYTES))
