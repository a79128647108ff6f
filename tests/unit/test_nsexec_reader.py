"""nsexec's plan reader under ASan and UBSan: whatever is not a plan is refused, never crashed on (SECURITY 18)."""

from __future__ import annotations

import random
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyoci.plan import ops
from pyoci.plan.ops import op

NSEXEC = Path(__file__).parents[2] / "build" / "nsexec-asan"

PLAN = [
    op("unshare", namespaces=0x20020000),
    op("fork"),
    op("rootfs", "/bundle/rootfs"),
    op("mount", "tmpfs", "tmpfs", "/dev", "mode=755,size=65536k", flags=2),
    op("bind", "/etc/hosts", "/etc/hosts", slot=-1, attr_set=1),
    op("hook", "/bin/true", '{"pid":', "}", "true", "A=1", argc=1, envc=1),
    op("setids", struct.pack("<II", 1, 2), uid=0, gid=0, flags=1),
    op("seccomp", bytes(64)),
    op("exec", "sh", "-c", "true", "PATH=/bin", argc=3, envc=1),
]


def check(data: bytes) -> tuple[int, str]:
    done = subprocess.run(
        ["nsexec", "check"], executable=NSEXEC, input=data, capture_output=True, timeout=30, check=False
    )
    return done.returncode, done.stderr.decode()


@pytest.fixture(autouse=True)
def _built() -> None:
    if not NSEXEC.exists():
        pytest.skip("build/nsexec-asan is not built: make test")


def refused(data: bytes) -> bool:
    code, text = check(data)
    assert code in (0, 1), text
    assert text.count("\n") == code, text
    return code == 1


def test_a_good_plan_is_read() -> None:
    assert check(ops.encode(PLAN)) == (0, "")


def test_every_truncation_is_refused() -> None:
    data = ops.encode(PLAN)
    for size in range(0, len(data), 7):
        assert refused(data[:size])
        assert refused(data[:8] + struct.pack("<I", size) + data[12:size])


@pytest.mark.parametrize("magic", [b"PYOCI\0\2\0", b"PYOCI\0\0\0", b"\x7fELF\0\0\0\0"])
def test_another_version_is_refused(magic: bytes) -> None:
    assert refused(magic + ops.encode(PLAN)[8:])


def test_trailing_bytes_and_wrong_counts_are_refused() -> None:
    data = ops.encode(PLAN)
    assert refused(data + b"\0" * 8)
    for count in (0, len(PLAN) - 1, len(PLAN) + 1, 0xFFFFFFFF):
        assert refused(data[:12] + struct.pack("<I", count) + data[16:])


def test_a_nul_in_a_path_is_refused_but_not_in_a_blob() -> None:
    assert refused(ops.encode([op("cwd", b"/a\0b")]))
    assert not refused(ops.encode([op("seccomp", b"\0" * 8)]))


@pytest.mark.parametrize("argc, envc", [(0, 4), (3, 2), (-1, 5), (2**62, 2), (1 << 40, 0)])
def test_argument_counts_must_match(argc: int, envc: int) -> None:
    assert refused(ops.encode([op("exec", "a", "b", "c", "d", argc=argc, envc=envc)]))


def test_bit_flips_do_not_crash_the_reader() -> None:
    data, rng = ops.encode(PLAN), random.Random(1)
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(8, len(damaged))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        refused(bytes(damaged))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 40))
def test_random_records_do_not_crash_the_reader(body: bytes, count: int) -> None:
    refused(ops.HEADER.pack(ops.MAGIC, ops.HEADER.size + len(body), count) + body)


def test_a_plan_over_the_limit_is_refused() -> None:
    assert refused(ops.HEADER.pack(ops.MAGIC, ops.MAX_PLAN + 1, 1) + bytes(ops.MAX_PLAN + 1 - ops.HEADER.size))
