"""Which system calls a program may make: a seccomp filter, in the kernel's own small language, without privileges.

Namespaces say what a program can see; the filter keeps it from what they do not cover (sockets to the virtual
machine's host, the kernel's key rings, io_uring), from tracing its neighbours, and from building namespaces of its own.
Without `fork` it may start threads but no processes, and signal nobody but itself. Numbers: Linux, asm/unistd.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from typing import Final

# x86-64, arm64; the calls that both have under one number come after. 0 stands for a call that arm64 does not have.
_REFUSED: Final[dict[str, tuple[int, int]]] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "acct": (163, 89),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "quotactl": (179, 60),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "syslog": (103, 116),
    "personality": (135, 92),
    "fanotify_init": (300, 262),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "tkill": (200, 130),
    "shmget": (29, 194),  # memory that no limit of the process counts
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "memfd_create": (319, 279),
    "modify_ldt": (154, 0),
    "iopl": (172, 0),
    "ioperm": (173, 0),
}
_REFUSED_SAME: Final = (
    *range(424, 434),  # pidfd_send_signal, io_uring_*, open_tree, move_mount, fsopen, fsconfig, fsmount, fspick
    434,  # pidfd_open
    438,  # pidfd_getfd
    440,  # process_madvise
    442,  # mount_setattr
    447,  # memfd_secret
)
_CALLS: Final[dict[str, tuple[int, int]]] = {
    "socket": (41, 198),
    "clone": (56, 220),
    "kill": (62, 129),
    "tgkill": (234, 131),
    "fork": (57, 0),
    "vfork": (58, 0),
}
CLONE3: Final = 435
ARCHITECTURES: Final = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, AUDIT_ARCH_*
CLONE_THREAD, CLONE_NEW = 0x00010000, 0x7E020000
AF_UNIX: Final = 1

_LOAD, _EQUAL, _GREATER, _BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # ld, jeq, jge, jset, ret
_KILL, _ALLOW, _ERRNO = 0x80000000, 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2

Step = tuple[int, int, int, int]  # code, steps to skip if true, steps to skip if false, constant


def supported() -> bool:
    """Whether the filter is written for this machine."""
    return sys.platform == "linux" and os.uname().machine in ARCHITECTURES


def install(fork: bool) -> None:
    """Put this process and all its children under the filter, for good. `no_new_privs` must be set before.

    Raises `OSError` where the kernel refuses it.
    """
    steps = program(fork, os.getpid())
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    memory = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.c_char_p(header), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp filter")


def program(fork: bool, pid: int) -> list[Step]:
    """The filter's steps; a call that is not named is allowed."""
    column, architecture = ARCHITECTURES[os.uname().machine]
    number = {name: both[column] for name, both in _CALLS.items()}
    steps: list[Step] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if column == 0:  # the x32 calls would be a second set of numbers for the same calls
        steps += [(_GREATER, 0, 1, 0x40000000), (_RETURN, 0, 0, _KILL)]
    for refused in (*(both[column] for both in _REFUSED.values()), *_REFUSED_SAME):
        steps += _for(refused, [_refuse(errno.EPERM)])
    steps += _for(CLONE3, [_refuse(errno.ENOSYS)])  # its flags are out of the filter's sight; the C library uses clone
    steps += _for(number["socket"], _only(AF_UNIX, errno.EACCES))
    if fork:
        steps += _for(number["clone"], [_argument(), (_BITS, 0, 1, CLONE_NEW), _refuse(errno.EPERM), _allow()])
    else:
        steps += _for(number["clone"], [_argument(), (_BITS, 1, 0, CLONE_THREAD), _refuse(errno.EPERM), _allow()])
        for name in ("fork", "vfork"):
            steps += _for(number[name], [_refuse(errno.EPERM)])
        for name in ("kill", "tgkill"):
            steps += _for(number[name], _only(pid, errno.EPERM))
    return [*steps, _allow()]


def _for(number: int, body: list[Step]) -> list[Step]:
    """Steps for one call; every path of the body returns."""
    return [(_EQUAL, 0, len(body), number), *body] if number else []


def _only(value: int, error: int) -> list[Step]:
    return [_argument(), (_EQUAL, 1, 0, value), _refuse(error), _allow()]


def _argument() -> Step:
    return (_LOAD, 0, 0, _FIRST_ARGUMENT)  # its low half: all of these arguments are 32-bit integers


def _refuse(error: int) -> Step:
    return (_RETURN, 0, 0, _ERRNO | error)


def _allow() -> Step:
    return (_RETURN, 0, 0, _ALLOW)
