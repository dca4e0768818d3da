"""Freed memory stays with the process; what the user has set for the allocator stays as it is."""

import os
import platform
import subprocess
import sys

import pytest

from zhenlong.kernels import malloc

PROGRAM = """
import resource, sys
import torch
from zhenlong.kernels import malloc
kept = malloc.keep_freed_memory()

def step():  # blocks below and above the 32 MB from which glibc maps a block of its own
    several = [torch.empty(size).fill_(1.0) for size in (500_000, 3_000_000, 12_000_000)]

for _ in range(8):  # until blocks of all these sizes have their places
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(**environment):
    """Whether memory was kept, and the page faults of five steps that take and free 62 MB."""
    clean = {name: text for name, text in os.environ.items() if name not in malloc.USER_SETTINGS}
    told = subprocess.run([sys.executable, "-c", PROGRAM], env=clean | environment, capture_output=True, text=True)
    kept, count = told.stdout.split()
    return kept == "True", int(count)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory in its own way")
def test_pages_are_asked_for_once():
    kept, count = faults()
    assert kept
    assert count < 500  # a page is 4 KB: 5 x 62 MB are 75,000, of which the smaller blocks are not always given back


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory in its own way")
def test_settings_of_the_user_are_left_alone():
    kept, count = faults(MALLOC_TRIM_THRESHOLD_="131072", MALLOC_MMAP_THRESHOLD_="131072")
    assert not kept
    assert count > 10_000
