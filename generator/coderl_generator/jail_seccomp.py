"""The system calls that a jailed program may not make, as a seccomp filter in the kernel's own form (classic BPF).

A deny-list: what is not named here is allowed, so that ordinary programs run. Covered: other processes' memory (`ptrace`,
`process_vm_*`), new namespaces and mounts (`unshare`, `setns`, `mount`, `clone` with a namespace flag …), the kernel's large
or young interfaces (`bpf`, `io_uring`, `perf_event_open`, `userfaultfd`, `keyctl`), what changes the machine (`kexec`, modules,
clocks, swap), memory that no other limit counts (`memfd_create`, System V shared memory, message queues), sockets of other
families than Unix and IP, pushing keys into a terminal (`ioctl` TIOCSTI, TIOCLINUX) and, unless allowed, new processes. Calls
of another architecture (32 bit, x32) end the program. With `nesting` what a jail inside the jail is made of is allowed too
(`NESTING`, netlink, namespaces). Not covered: a fault in a call that is allowed.

Source: seccomp(2), "SECCOMP_SET_MODE_FILTER"; linux/filter.h and linux/seccomp.h for the encoding of instructions and results.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from .errors import JailUnavailable

X86_64: Final = "x86_64"
AARCH64: Final = "aarch64"
_AUDIT_ARCH: Final[Mapping[str, int]] = MappingProxyType({X86_64: 0xC000003E, AARCH64: 0xC00000B7})

_NUMBERS: Final[tuple[tuple[str, int | None, int | None], ...]] = (
    # name, on x86_64, on aarch64; None = the architecture has no such call
    ("ptrace", 101, 117),
    ("process_vm_readv", 310, 270),
    ("process_vm_writev", 311, 271),
    ("process_madvise", 440, 440),
    ("pidfd_getfd", 438, 438),
    ("kcmp", 312, 272),
    ("bpf", 321, 280),
    ("perf_event_open", 298, 241),
    ("userfaultfd", 323, 282),
    ("keyctl", 250, 219),
    ("add_key", 248, 217),
    ("request_key", 249, 218),
    ("mount", 165, 40),
    ("umount2", 166, 39),
    ("pivot_root", 155, 41),
    ("chroot", 161, 51),
    ("move_mount", 429, 429),
    ("open_tree", 428, 428),
    ("fsopen", 430, 430),
    ("fsconfig", 431, 431),
    ("fsmount", 432, 432),
    ("fspick", 433, 433),
    ("mount_setattr", 442, 442),
    ("unshare", 272, 97),
    ("setns", 308, 268),
    ("io_uring_setup", 425, 425),
    ("io_uring_enter", 426, 426),
    ("io_uring_register", 427, 427),
    ("kexec_load", 246, 104),
    ("kexec_file_load", 320, 294),
    ("init_module", 175, 105),
    ("finit_module", 313, 273),
    ("delete_module", 176, 106),
    ("reboot", 169, 142),
    ("swapon", 167, 224),
    ("swapoff", 168, 225),
    ("syslog", 103, 116),
    ("acct", 163, 89),
    ("quotactl", 179, 60),
    ("quotactl_fd", 443, 443),
    ("name_to_handle_at", 303, 264),
    ("open_by_handle_at", 304, 265),
    ("fanotify_init", 300, 262),
    ("iopl", 172, None),
    ("ioperm", 173, None),
    ("modify_ldt", 154, None),
    ("uselib", 134, None),
    ("personality", 135, 92),
    ("sethostname", 170, 161),
    ("setdomainname", 171, 162),
    ("settimeofday", 164, 170),
    ("clock_settime", 227, 112),
    ("adjtimex", 159, 171),
    ("clock_adjtime", 305, 266),
    ("lookup_dcookie", 212, 18),
    ("nfsservctl", 180, 42),
    ("vhangup", 153, 58),
    ("memfd_create", 319, 279),
    ("memfd_secret", 447, 447),
    ("shmget", 29, 194),
    ("shmat", 30, 196),
    ("shmctl", 31, 195),
    ("msgget", 68, 186),
    ("semget", 64, 190),
    ("mq_open", 240, 180),
)
NESTING: Final = frozenset(
    {"mount", "umount2", "pivot_root", "mount_setattr", "unshare", "memfd_create", "sethostname", "chroot", "process_madvise"}
)
"""Calls that a jail inside this one is made with."""
_CLONE: Final[Mapping[str, int]] = MappingProxyType({X86_64: 56, AARCH64: 220})
_CLONE3: Final = 435
_FORKS: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType({X86_64: (57, 58), AARCH64: ()})
_SOCKET: Final[Mapping[str, int]] = MappingProxyType({X86_64: 41, AARCH64: 198})
_IOCTL: Final[Mapping[str, int]] = MappingProxyType({X86_64: 16, AARCH64: 29})
_X32_BIT: Final = 0x40000000

_CLONE_THREAD: Final = 0x00010000
_NAMESPACES: Final = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""
_NETLINK: Final = 16
"""AF_NETLINK: a jail inside brings its own loopback up by it."""
_FAMILIES: Final = (1, 2, 10)
"""AF_UNIX, AF_INET, AF_INET6: they end at the borders of the jail's namespaces. AF_VSOCK, AF_ALG, AF_NETLINK … do not all."""
_TERMINAL: Final = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX."""

_LOAD, _JUMP_EQUAL, _JUMP_SET, _RETURN = 0x20, 0x15, 0x45, 0x06
_NUMBER_AT, _ARCH_AT, _ARGUMENT_0_AT, _ARGUMENT_1_AT = 0, 4, 16, 24
"""Byte offsets in struct seccomp_data; of the 64-bit arguments the lower half (both architectures are little-endian)."""
_ALLOW: Final = 0x7FFF0000
_KILL: Final = 0x80000000
_REFUSE: Final = 0x00050000
"""SECCOMP_RET_ERRNO; the error number stands in the lower 16 bits."""
_INSTRUCTION: Final = struct.Struct("<HBBI")


def denied_names(architecture: str) -> tuple[str, ...]:
    """The calls that are always refused on an architecture."""
    column = 1 if architecture == X86_64 else 2
    return tuple(str(row[0]) for row in _NUMBERS if row[column] is not None)


def seccomp_filter(*, processes: bool, architecture: str = "", nesting: bool = False) -> bytes:
    """The filter for `architecture` (default: this machine's); `processes`: new processes may be started, not only threads;
    `nesting`: and jails of their own, which takes user namespaces.

    Raises `JailUnavailable` for an architecture without a table.
    """
    name = architecture or platform.machine()
    if name not in _AUDIT_ARCH:
        raise JailUnavailable(f"There is no seccomp filter for {name}: only {', '.join(_AUDIT_ARCH)}.")
    column = 1 if name == X86_64 else 2
    allowed = NESTING if nesting else frozenset()
    numbers = [row[column] for row in _NUMBERS if row[column] is not None and row[0] not in allowed]
    code: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, _ARCH_AT),
        (_JUMP_EQUAL, 1, 0, _AUDIT_ARCH[name]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    if name == X86_64:
        code += _if_set(_X32_BIT, _KILL)
    for number in numbers:
        code += _if_equal(int(number or 0), _refuse(errno.EPERM))
    # The C library falls back to clone, whose flags can be read; those of clone3 lie behind a pointer.
    code += _if_equal(_CLONE3, _refuse(errno.ENOSYS))
    if not processes:
        for number in _FORKS[name]:
            code += _if_equal(number, _refuse(errno.EAGAIN))
    if not nesting:
        code += _on_call(_CLONE[name], _ARGUMENT_0_AT, _clone_rules(processes))
    families = (*_FAMILIES, _NETLINK) if nesting else _FAMILIES
    socket = [row for family in families for row in _if_equal(family, _ALLOW)]
    code += _on_call(_SOCKET[name], _ARGUMENT_0_AT, [*socket, (_RETURN, 0, 0, _refuse(errno.EAFNOSUPPORT))])
    terminal = [row for request in _TERMINAL for row in _if_equal(request, _refuse(errno.EPERM))]
    code += _on_call(_IOCTL[name], _ARGUMENT_1_AT, [*terminal, (_RETURN, 0, 0, _ALLOW)])
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(_INSTRUCTION.pack(*row) for row in code)


def _refuse(error: int) -> int:
    return _REFUSE | error


def _if_equal(value: int, result: int) -> list[tuple[int, int, int, int]]:
    return [(_JUMP_EQUAL, 0, 1, value), (_RETURN, 0, 0, result)]


def _if_set(bits: int, result: int) -> list[tuple[int, int, int, int]]:
    return [(_JUMP_SET, 0, 1, bits), (_RETURN, 0, 0, result)]


def _clone_rules(processes: bool) -> list[tuple[int, int, int, int]]:
    rules = _if_set(_NAMESPACES, _refuse(errno.EPERM))
    if not processes:
        rules += [*_if_set(_CLONE_THREAD, _ALLOW), (_RETURN, 0, 0, _refuse(errno.EAGAIN))]
    return [*rules, (_RETURN, 0, 0, _ALLOW)]


def _on_call(number: int, argument_at: int, rules: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """`rules`, which end in a return, on an argument of one call; after them the number is in the accumulator again."""
    return [(_JUMP_EQUAL, 0, len(rules) + 1, number), (_LOAD, 0, 0, argument_at), *rules]
