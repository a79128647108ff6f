"""SECURITY 20: Linux 6.17 to 7.1 write past the caller's bpf_attr for the device programs of cgroups."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import sys
from typing import Any

import pytest

from pyoci.host import bpf

PAST = 256  # bytes the kernel may write to


class Kernel:
    """In place of the C library: what bpf(2) is handed, and a kernel that writes behind what it knows."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, bytes]] = []

    def syscall(self, number: Any, command: Any, attr: Any, size: Any) -> int:
        room = attr._obj
        assert ctypes.sizeof(room) >= PAST
        self.seen.append((size.value, room.raw))
        ctypes.memset(room, 0xFF, PAST)
        return 0


def test_there_is_room_and_it_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command: at least 256 bytes, zero after what is said, and none of another object behind it."""
    kernel = Kernel()
    monkeypatch.setattr(bpf.ctypes, "CDLL", lambda *_, **__: kernel)
    head = b"\1" * 20
    _, answer = bpf._bpf(bpf.PROG_QUERY, head)
    assert len(answer) >= PAST
    _, data = kernel.seen[0]
    assert data[: len(head)] == head
    assert not data[len(head) : PAST].strip(b"\0")


class OldKernel:
    """In place of the C library and of the module resource: programs count as locked memory (before Linux 5.11)."""

    RLIMIT_MEMLOCK, RLIM_INFINITY = resource.RLIMIT_MEMLOCK, resource.RLIM_INFINITY

    def __init__(self, needed: int, privileged: bool) -> None:
        self.needed = needed
        self.privileged = privileged
        self.limits = (4096, 8192)

    def syscall(self, *_: Any) -> int:
        if self.limits[0] not in (self.RLIM_INFINITY, *range(self.needed, 1 << 20)):
            ctypes.set_errno(errno.EPERM)
            return -1
        return 7

    def getrlimit(self, which: int) -> tuple[int, int]:
        assert which == self.RLIMIT_MEMLOCK
        return self.limits

    def setrlimit(self, which: int, limits: tuple[int, int]) -> None:
        assert which == self.RLIMIT_MEMLOCK
        if limits[1] == self.RLIM_INFINITY and not self.privileged:
            raise ValueError("not allowed to raise maximum limit")
        self.limits = limits


@pytest.mark.parametrize(
    ("needed", "privileged", "loaded"),
    [(4096, False, True), (8192, False, True), (8193, False, False), (8193, True, True)],
)
def test_limit_of_locked_memory(monkeypatch: pytest.MonkeyPatch, needed: int, privileged: bool, loaded: bool) -> None:
    """It is raised as far as may be while the program is loaded, and put back."""
    old = OldKernel(needed, privileged)
    monkeypatch.setattr(bpf.ctypes, "CDLL", lambda *_, **__: old)
    monkeypatch.setitem(sys.modules, "resource", old)
    if loaded:
        assert bpf._load(b"") == 7
    else:
        with pytest.raises(PermissionError):
            bpf._load(b"")
    assert old.limits == (4096, 8192)


@pytest.mark.skipif(os.path.ismount("/sys/fs/cgroup/devices"), reason="device programs are of cgroup v2 only")
def test_a_program_is_loaded() -> None:
    """The kernel of this host takes it."""
    allow = bytes.fromhex("b700000001000000") + bytes.fromhex("9500000000000000")
    os.close(bpf._load(allow))
