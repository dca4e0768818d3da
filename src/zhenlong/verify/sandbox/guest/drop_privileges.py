"""Restrict a process before it runs untrusted code: resource limits, user id, capabilities, system calls."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Mapping
from typing import Any, Final

from . import seccomp

STACK_BYTES: Final = 64 << 20  # bytes; enough for the recursion of contest programs; each thread reserves as much
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_SET_CHILD_SUBREAPER = 1, 4, 24, 38, 36
_CAPABILITY_VERSION: Final = 0x20080522
_CAPABILITIES: Final = 64


def drop_privileges(job: Mapping[str, Any], uid_offset: int = 0) -> None:
    """Apply the job's limits to this process and all its children, and drop its privileges.

    `uid_offset` is added to the job's user id, if any, so that two confined processes cannot signal each other.
    """
    set_limits(job["limits"], job["count_processes"])
    if sys.platform != "linux":
        return
    uid = job["uid"]
    if uid is not None:
        for capability in range(_CAPABILITIES):
            _prctl(_PR_CAPBSET_DROP, capability)
        os.setgroups([])
        os.setresgid(uid + uid_offset, uid + uid_offset, uid + uid_offset)
        os.setresuid(uid + uid_offset, uid + uid_offset, uid + uid_offset)
    _drop_capabilities()
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    die_with_parent()
    if seccomp.supported():
        seccomp.install(bool(job["limits"]["fork"]))


def set_limits(limits: Mapping[str, Any], count_processes: bool) -> None:
    """Set the kernel's limits of a process. `count_processes`: limit processes too, if the user id has no others."""
    cpu = int(limits["cpu_seconds"])
    rlimits = [
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_CPU, cpu, cpu + 1),  # soft limit: SIGXCPU, hard limit: SIGKILL
        (resource.RLIMIT_FSIZE, limits["file_size"], limits["file_size"]),
        (resource.RLIMIT_NOFILE, limits["open_files"], limits["open_files"]),
        (resource.RLIMIT_STACK, STACK_BYTES, None),
    ]
    if sys.platform == "linux":
        rlimits.append((resource.RLIMIT_AS, limits["memory"], limits["memory"]))
        rlimits.append((resource.RLIMIT_MEMLOCK, 0, 0))
        if count_processes:
            rlimits.append((resource.RLIMIT_NPROC, limits["processes"], limits["processes"]))
    for kind, soft, hard in rlimits:
        hard_limit = resource.getrlimit(kind)[1]
        max_value = sys.maxsize if hard_limit == resource.RLIM_INFINITY else hard_limit
        resource.setrlimit(kind, (min(soft, max_value), hard_limit if hard is None else min(hard, max_value)))


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends. A change of user resets it, exec does not."""
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def hide_memory() -> None:
    """Prevent other processes of the same user from tracing this one or reading its memory."""
    if sys.platform == "linux":
        _prctl(_PR_SET_DUMPABLE, 0)


def adopt_orphans() -> None:
    """Become the subreaper of orphaned descendants, so that they can be found and killed."""
    if sys.platform == "linux":
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _drop_capabilities() -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    none = (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset(ctypes.byref(header), ctypes.byref(none)):
        raise OSError(ctypes.get_errno(), "capset")


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = [ctypes.c_ulong(number) for number in (value, 0, 0, 0)]
    if libc.prctl(option, *arguments) and option != _PR_CAPBSET_DROP:  # else: unknown to this kernel
        raise OSError(ctypes.get_errno(), f"prctl {option}")
