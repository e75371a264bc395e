"""The filter of system calls, run by a small interpreter of the kernel's instructions: what it says to each call."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_generator.errors import JailUnavailable
from coderl_generator.jail_seccomp import AARCH64, NESTING, X86_64, denied_names, seccomp_filter

ALLOWED, KILLED = 0x7FFF0000, 0x80000000
ARCHITECTURES = {X86_64: 0xC000003E, AARCH64: 0xC00000B7}
CALLS = {
    X86_64: {
        "read": 0,
        "execve": 59,
        "clone": 56,
        "clone3": 435,
        "fork": 57,
        "socket": 41,
        "ioctl": 16,
        "ptrace": 101,
        "mount": 165,
    },
    AARCH64: {"read": 63, "execve": 221, "clone": 220, "clone3": 435, "socket": 198, "ioctl": 29, "ptrace": 117, "mount": 40},
}
THREAD, NEW_USER = 0x00010000, 0x10000000
both = pytest.mark.parametrize("architecture", ARCHITECTURES)


def verdict(program: bytes, number: int, *arguments: int, audit: int) -> int:
    """Runs classic BPF over one struct seccomp_data."""
    data = struct.pack("<IIQ6Q", number, audit, 0, *arguments, *[0] * (6 - len(arguments)))
    code = [struct.unpack_from("<HBBI", program, at) for at in range(0, len(program), 8)]
    at, accumulator = 0, 0
    while True:
        operation, if_true, if_false, value = code[at]
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif operation == 0x15:
            at += if_true if accumulator == value else if_false
        elif operation == 0x45:
            at += if_true if accumulator & value else if_false
        else:
            assert operation == 0x06
            return value


def refused(error: int) -> int:
    return 0x00050000 | error


@both
def test_ordinary_calls_are_allowed_and_dangerous_ones_refused(architecture: str) -> None:
    program, audit = seccomp_filter(processes=False, architecture=architecture), ARCHITECTURES[architecture]
    calls = CALLS[architecture]
    assert verdict(program, calls["read"], audit=audit) == ALLOWED
    assert verdict(program, calls["execve"], audit=audit) == ALLOWED
    for name in ("ptrace", "mount"):
        assert verdict(program, calls[name], audit=audit) == refused(errno.EPERM)
    assert verdict(program, calls["clone3"], audit=audit) == refused(errno.ENOSYS)


@both
def test_threads_are_always_allowed_and_processes_where_asked(architecture: str) -> None:
    audit, calls = ARCHITECTURES[architecture], CALLS[architecture]
    for processes in (False, True):
        program = seccomp_filter(processes=processes, architecture=architecture)
        assert verdict(program, calls["clone"], THREAD | 0x100, audit=audit) == ALLOWED
        assert verdict(program, calls["clone"], 17, audit=audit) == (ALLOWED if processes else refused(errno.EAGAIN))
        assert verdict(program, calls["clone"], NEW_USER | 17, audit=audit) == refused(errno.EPERM)
        assert verdict(program, calls["clone"], NEW_USER | THREAD, audit=audit) == refused(errno.EPERM)
        if "fork" in calls:
            assert verdict(program, calls["fork"], audit=audit) == (ALLOWED if processes else refused(errno.EAGAIN))


@both
def test_a_jail_inside_is_made_of_few_calls_more(architecture: str) -> None:
    audit, calls = ARCHITECTURES[architecture], CALLS[architecture]
    plain, nesting = (seccomp_filter(processes=True, architecture=architecture, nesting=one) for one in (False, True))
    opened = {
        number for number in range(500) if verdict(plain, number, 0, audit=audit) != verdict(nesting, number, 0, audit=audit)
    }
    assert len(opened) == len(NESTING)
    assert calls["mount"] in opened
    assert verdict(nesting, calls["ptrace"], audit=audit) == refused(errno.EPERM)
    assert verdict(nesting, calls["clone"], NEW_USER | 17, audit=audit) == ALLOWED
    families = [family for family in range(50) if verdict(nesting, calls["socket"], family, audit=audit) == ALLOWED]
    assert families == [1, 2, 10, 16]


@both
def test_only_sockets_that_end_at_the_jail(architecture: str) -> None:
    program, audit = seccomp_filter(processes=True, architecture=architecture), ARCHITECTURES[architecture]
    number = CALLS[architecture]["socket"]
    assert [family for family in range(50) if verdict(program, number, family, audit=audit) == ALLOWED] == [1, 2, 10]
    assert verdict(program, CALLS[architecture]["ioctl"], 0, 0x5412, audit=audit) == refused(errno.EPERM)
    assert verdict(program, CALLS[architecture]["ioctl"], 0, 0x5401, audit=audit) == ALLOWED


@given(number=st.integers(0, 2**32 - 1), audit=st.integers(0, 2**32 - 1), first=st.integers(0, 2**64 - 1))
def test_every_call_gets_an_answer_and_other_architectures_die(number: int, audit: int, first: int) -> None:
    for architecture, own in ARCHITECTURES.items():
        program = seccomp_filter(processes=False, architecture=architecture)
        assert (
            verdict(program, number, first, audit=own) in {ALLOWED, KILLED}
            or verdict(program, number, first, audit=own) >> 16 == 5
        )
        if audit != own:
            assert verdict(program, number, first, audit=audit) == KILLED


def test_the_32_bit_calls_of_the_same_processor_die() -> None:
    assert verdict(seccomp_filter(processes=True, architecture=X86_64), 0x40000000 | 39, audit=ARCHITECTURES[X86_64]) == KILLED


def test_an_unknown_architecture_is_said() -> None:
    with pytest.raises(JailUnavailable, match="riscv64"):
        seccomp_filter(processes=False, architecture="riscv64")


def test_the_two_architectures_refuse_the_same_but_for_what_one_lacks() -> None:
    assert set(denied_names(X86_64)) - set(denied_names(AARCH64)) == {"iopl", "ioperm", "modify_ldt", "uselib"}
    assert set(denied_names(AARCH64)) <= set(denied_names(X86_64))
