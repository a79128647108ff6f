"""bpf(2) for one purpose: the device program of a v2 cgroup.

The only place that imports ctypes (milliseconds), so it is loaded on v2 hosts only.
Sources: bpf(2), linux/include/uapi/linux/bpf.h (union bpf_attr), kernel/bpf/cgroup.c.
"""

from __future__ import annotations

import ctypes
import struct

from pyoci import errors, kernel

SYSCALLS = {"x86_64": 321, "aarch64": 280}
PROG_LOAD, PROG_ATTACH, PROG_DETACH, PROG_GET_FD_BY_ID, PROG_QUERY = 5, 8, 9, 13, 16
PROG_TYPE_CGROUP_DEVICE, CGROUP_DEVICE = 15, 6
ALLOW_MULTI, REPLACE = 2, 4
# Linux 6.17 to 7.1 write past the size they are told for cgroup programs: there must be room, and zeroes.
ATTR_SIZE = 512
TOLD_SIZE = 256
MAX_PROGRAMS = 64  # BPF_CGROUP_MAX_PROGS
HINT = "the kernel needs CONFIG_CGROUP_BPF, and the runtime CAP_BPF and CAP_NET_ADMIN or CAP_SYS_ADMIN"


def attach_device_program(directory: str, code: bytes) -> None:
    """Make code (struct bpf_insn array, plan.devprogram.program) the device filter of a v2 cgroup.

    An earlier one is replaced in one step, so that there is no moment without a filter.
    Raises errors.SetupError.
    """
    where = "/linux/resources/devices"
    program = group = -1
    try:
        group = kernel.open(directory, kernel.O_RDONLY | kernel.O_DIRECTORY | kernel.O_CLOEXEC)
        program = _load(code)
        _replace(group, program)
    except OSError as error:
        raise errors.failed(f"set the device filter of {directory}", error, where, HINT) from None
    finally:
        for fd in (group, program):
            if fd >= 0:
                kernel.close(fd)


def _load(code: bytes) -> int:
    text = ctypes.create_string_buffer(code, len(code))
    license = ctypes.create_string_buffer(b"GPL")
    head = struct.pack("<IIQQ", PROG_TYPE_CGROUP_DEVICE, len(code) // 8, *map(ctypes.addressof, (text, license)))
    try:
        return _bpf(PROG_LOAD, head)[0]
    except PermissionError:
        return _load_with_memory(head)


def _load_with_memory(head: bytes) -> int:
    """Before Linux 5.11 a program counts as locked memory, of which little is allowed."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    _allow_memory(resource.RLIM_INFINITY, resource.RLIM_INFINITY) or _allow_memory(before[1], before[1])
    try:
        return _bpf(PROG_LOAD, head)[0]
    finally:
        _allow_memory(*before)


def _allow_memory(soft: int, hard: int) -> bool:
    import resource

    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (soft, hard))
    except (OSError, ValueError):  # ValueError: CPython's word for the EPERM of a hard limit
        return False
    return True


def _replace(group: int, program: int) -> None:
    old = [_bpf(PROG_GET_FD_BY_ID, struct.pack("<I", number))[0] for number in attached(group)]
    try:
        flags, replaced = (ALLOW_MULTI | REPLACE, old[0]) if len(old) == 1 else (ALLOW_MULTI, 0)
        _bpf(PROG_ATTACH, struct.pack("<IIIII", group, program, CGROUP_DEVICE, flags, replaced))
        for fd in old if len(old) > 1 else ():
            _bpf(PROG_DETACH, struct.pack("<III", group, fd, CGROUP_DEVICE))
    finally:
        for fd in old:
            kernel.close(fd)


def attached(group: int) -> list[int]:
    """The ids of the device programs of the cgroup that this descriptor is open on.  Raises OSError."""
    ids = (ctypes.c_uint32 * MAX_PROGRAMS)()
    head = struct.pack("<IIIIQI", group, CGROUP_DEVICE, 0, 0, ctypes.addressof(ids), MAX_PROGRAMS)
    _, answer = _bpf(PROG_QUERY, head)
    (count,) = struct.unpack_from("<I", answer, 24)
    return list(ids[:count])


def _bpf(command: int, head: bytes) -> tuple[int, bytes]:
    machine = kernel.uname().machine
    if machine not in SYSCALLS:
        raise errors.SetupError(f"the number of bpf(2) on {machine} is not known")
    attr = ctypes.create_string_buffer(head, ATTR_SIZE)
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(
        ctypes.c_long(SYSCALLS[machine]), ctypes.c_int(command), ctypes.byref(attr), ctypes.c_uint(TOLD_SIZE)
    )
    if result < 0:
        raise OSError(ctypes.get_errno(), f"bpf command {command}")
    return result, attr.raw
