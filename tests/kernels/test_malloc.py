"""Freed memory stays with the process; the user's settings of the allocator are respected."""

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

def step():  # blocks below and above 32 MB, from which glibc uses mmap
    several = [torch.empty(size).fill_(1.0) for size in (500_000, 3_000_000, 12_000_000)]

for _ in range(8):  # until blocks of all these sizes have found a place
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(**environment):
    """Whether freed memory is kept, and the page faults of five steps that allocate and free 62 MB."""
    clean = {name: text for name, text in os.environ.items() if name not in malloc.USER_SETTINGS}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=clean | environment, capture_output=True, text=True)
    kept, count = done.stdout.split()
    return kept == "True", int(count)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_repeated_allocations_cause_few_page_faults():
    kept, count = faults()
    assert kept
    assert count < 500  # 5 x 62 MB are 75,000 pages of 4 KB, of which glibc returns most by default


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_the_users_allocator_settings_are_respected():
    kept, count = faults(MALLOC_TRIM_THRESHOLD_="131072", MALLOC_MMAP_THRESHOLD_="131072")
    assert not kept
    assert count > 10_000
