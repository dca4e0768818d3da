"""The seccomp filter: which system calls a program may make, as BPF instructions, without privileges.

Namespaces limit what a program can see; the filter blocks what they do not cover (sockets to the virtual machine's
host, kernel key rings, io_uring), tracing of other processes, and creation of namespaces. Without `fork` the program
may start threads but no processes, and signal only itself. Numbers: Linux, asm/unistd.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from typing import Final

# (x86-64, arm64) numbers; calls with the same number on both follow. 0: a call that arm64 does not have.
_DENIED_CALLS: Final[dict[str, tuple[int, int]]] = {
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
    "shmget": (29, 194),  # memory outside the process's limits
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "memfd_create": (319, 279),
    "modify_ldt": (154, 0),
    "iopl": (172, 0),
    "ioperm": (173, 0),
}
_DENIED_CALLS_SAME_NUMBER: Final = (
    *range(424, 434),  # pidfd_send_signal, io_uring_*, open_tree, move_mount, fsopen, fsconfig, fsmount, fspick
    434,  # pidfd_open
    438,  # pidfd_getfd
    440,  # process_madvise
    442,  # mount_setattr
    447,  # memfd_secret
)
_FILTERED_CALLS: Final[dict[str, tuple[int, int]]] = {
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

_LD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06  # ld, jeq, jge, jset, ret
_KILL, _ALLOW, _ERRNO = 0x80000000, 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2

Instruction = tuple[int, int, int, int]  # code, steps to skip if true, steps to skip if false, constant


def supported() -> bool:
    """Whether the filter supports this machine's architecture."""
    return sys.platform == "linux" and os.uname().machine in ARCHITECTURES


def install(fork: bool) -> None:
    """Install the filter for this process and all its children, permanently. `no_new_privs` must be set before.

    Raises `OSError` if the kernel refuses it.
    """
    instructions = filter_program(fork, os.getpid())
    code = b"".join(struct.pack("HBBI", *step) for step in instructions)
    memory = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxP", len(instructions), ctypes.addressof(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.c_char_p(header), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp filter")


def filter_program(fork: bool, pid: int) -> list[Instruction]:
    """The filter's instructions; calls that are not listed are allowed."""
    column, architecture = ARCHITECTURES[os.uname().machine]
    number = {name: both[column] for name, both in _FILTERED_CALLS.items()}
    instructions: list[Instruction] = [
        (_LD, 0, 0, _ARCHITECTURE),
        (_JEQ, 1, 0, architecture),
        (_RET, 0, 0, _KILL),
        (_LD, 0, 0, _NUMBER),
    ]
    if column == 0:  # x32 has a second set of numbers for the same calls
        instructions += [(_JGE, 0, 1, 0x40000000), (_RET, 0, 0, _KILL)]
    for refused in (*(both[column] for both in _DENIED_CALLS.values()), *_DENIED_CALLS_SAME_NUMBER):
        instructions += _on_call(refused, [_return_errno(errno.EPERM)])
    instructions += _on_call(
        CLONE3, [_return_errno(errno.ENOSYS)]
    )  # clone3's flags are in memory, which a filter cannot read; the C library falls back to clone
    instructions += _on_call(number["socket"], _allow_only(AF_UNIX, errno.EACCES))
    if fork:
        instructions += _on_call(
            number["clone"], [_load_argument(), (_JSET, 0, 1, CLONE_NEW), _return_errno(errno.EPERM), _return_allow()]
        )
    else:
        instructions += _on_call(
            number["clone"],
            [_load_argument(), (_JSET, 1, 0, CLONE_THREAD), _return_errno(errno.EPERM), _return_allow()],
        )
        for name in ("fork", "vfork"):
            instructions += _on_call(number[name], [_return_errno(errno.EPERM)])
        for name in ("kill", "tgkill"):
            instructions += _on_call(number[name], _allow_only(pid, errno.EPERM))
    return [*instructions, _return_allow()]


def _on_call(number: int, body: list[Instruction]) -> list[Instruction]:
    """Instructions for one call; every path of the body returns."""
    return [(_JEQ, 0, len(body), number), *body] if number else []


def _allow_only(value: int, error: int) -> list[Instruction]:
    return [_load_argument(), (_JEQ, 1, 0, value), _return_errno(error), _return_allow()]


def _load_argument() -> Instruction:
    return (_LD, 0, 0, _FIRST_ARGUMENT)  # the low half: all of these arguments are 32-bit integers


def _return_errno(error: int) -> Instruction:
    return (_RET, 0, 0, _ERRNO | error)


def _return_allow() -> Instruction:
    return (_RET, 0, 0, _ALLOW)
