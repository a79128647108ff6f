"""SECURITY 17: config.json is trusted to ask, not to be well formed: one clear error, in bounded time and memory."""

from __future__ import annotations

import copy
import json
import resource
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.harness import Box, pyoci_only

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pyoci_only("has Go's reader")

MIB = 1 << 20
SECONDS = 15.0


def refused(box: Box, *, memory: int = 200 * MIB) -> str:
    """create fails with one error line, within SECONDS and with no more memory (bytes, address space) than that."""

    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

    start = time.monotonic()
    done = subprocess.run(
        box.argv("create", "--bundle", str(box.bundle), box.id),
        stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS * 2, preexec_fn=bound,
    )  # fmt: skip
    seconds = time.monotonic() - start
    text = done.stderr.decode("utf-8", "replace")
    assert done.returncode == 1, text[-2000:]
    assert seconds < SECONDS
    assert "Traceback" not in text
    assert "internal error" not in text
    assert len([line for line in text.splitlines() if "level=error" in line]) == 1
    assert len(text) < 64 * 1024
    assert box.entries() == set()
    return text


def large(kind: str, config: str) -> bytes:
    """A config.json that is too much of something."""
    if kind == "brackets":
        return b"[" * 300_000
    if kind == "objects":
        return b'{"a":' * 300_000
    if kind == "string":
        return config.replace('"box"', '"' + "x" * (100 * MIB) + '"').encode()
    if kind == "number":
        return config.replace('"box"', "9" * 5_000_000).encode()
    if kind == "zeroes":
        return bytes(50 * MIB)
    if kind == "escapes":
        return config.replace('"box"', '"' + "\\u0041" * 3_000_000 + '"').encode()
    return config.replace('"box"', '"box", ' + ",".join(f'"k{i}": 1' for i in range(2_000_000))).encode()


@pytest.mark.parametrize("kind", ["brackets", "objects", "string", "number", "zeroes", "escapes", "keys"])
def test_large_and_deep(box: Box, kind: str) -> None:
    """300,000 brackets, 100 MiB of one string, ...: memory is bounded by a multiple of the file."""
    (box.bundle / "config.json").write_bytes(large(kind, json.dumps(box.config)))
    refused(box, memory=1500 * MIB)


@pytest.mark.parametrize("kind", ["refused", pytest.param("made", marks=pytest.mark.long)])
def test_100000_mounts(box: Box, kind: str) -> None:
    """As many errors in one config, and as many mounts as a namespace takes (fs.mount-max)."""
    mount: dict[str, Any] = {"type": "tmpfs", "source": "tmpfs", "options": ["size=1k"]}
    if kind == "refused":
        mount["options"] = [1]
    box.config["mounts"] += [{"destination": f"/m{i}", **mount} for i in range(100_000)]
    box.write()
    refused(box, memory=1500 * MIB)


def test_a_huge_file_is_not_read(box: Box) -> None:
    """A sparse file of 8 GiB, and a device that never ends."""
    config = box.bundle / "config.json"
    with config.open("wb") as file:
        file.truncate(8 << 30)
    assert "larger than" in refused(box)
    config.unlink()
    config.symlink_to("/dev/zero")
    refused(box)


def put(path: str, value: Any) -> Callable[[Box], None]:
    """A value at a JSON pointer of the config."""

    def apply(box: Box) -> None:
        at: Any = box.config
        *way, last = path.split("/")[1:]
        for word in way:
            at = at[int(word)] if isinstance(at, list) else at.setdefault(word, {})
        if isinstance(at, list):
            at[int(last)] = value
        else:
            at[last] = value

    return apply


VALUES = [
    ("/process/user/uid", True), ("/process/user/uid", 1.0), ("/process/user/uid", "0"), ("/process/user/uid", -1),
    ("/process/user/uid", 2**32), ("/process/user/gid", 1e3), ("/process/user/additionalGids", [2**32]),
    ("/process/terminal", 1), ("/process/noNewPrivileges", "true"), ("/process/args", "sh"), ("/process/args", [1]),
    ("/process/args/0", "a\0b"), ("/process/cwd", "relative"), ("/process/cwd", "/a\0b"), ("/process/env/0", "A\0=b"),
    ("/process/env/0", 5), ("/hostname", "a\nb"), ("/hostname", "a\0b"), ("/hostname", "x" * 65),
    ("/root/path", "a\0b"),
    ("/root/readonly", 1), ("/mounts/0/destination", "/a\0b"), ("/mounts/0/options", "ro"), ("/mounts/0/options", [1]),
    ("/mounts/0/source", "a\0b"), ("/linux/sysctl", {"net.x\ny": "1"}), ("/linux/sysctl", {"kernel.msgmax": "1\0"}),
    ("/linux/sysctl", {"kernel.msgmax": 5}), ("/linux/cgroupsPath", "a\0b"), ("/linux/cgroupsPath", 7),
    ("/linux/namespaces", [{"type": "pid"}, {"type": "pid"}]), ("/linux/namespaces", [{"type": "nope"}]),
    ("/linux/namespaces", [{"type": "pid", "path": "/a\0b"}]), ("/linux/maskedPaths", ["a\0b"]),
    ("/linux/maskedPaths", ["relative"]), ("/linux/resources", {"memory": {"limit": 1.5}}),
    ("/linux/resources", {"pids": {"limit": "9"}}), ("/linux/resources", {"unified": {"../x": "1"}}),
    ("/linux/resources", {"unified": {"memory.max": "1\n2"}}), ("/linux/devices", [{"path": "/d", "type": "x"}]),
    ("/linux/devices", [{"path": "/d\0", "type": "c", "major": 1, "minor": 3}]), ("/annotations", {"a": 1}),
    ("/hooks", {"prestart": [{"path": "relative"}]}), ("/hooks", {"prestart": [{"path": "/a\0b"}]}),
    ("/hooks", {"prestart": [{"path": "/bin/true", "timeout": 0}]}), ("/ociVersion", 1), ("/ociVersion", "one"),
    ("/process", []), ("/linux", "x"), ("/mounts", {}), ("/process/rlimits/0/soft", -1),
    ("/process/rlimits/0/hard", 2**64), ("/process/capabilities", ["CAP_KILL"]), ("/process/oomScoreAdj", 10**6),
    ("/linux/seccomp", {"defaultAction": "NOPE"}),
    ("/linux/uidMappings", [{"containerID": -1, "hostID": 0, "size": 1}]),
]  # fmt: skip


@pytest.mark.parametrize("part", range(4))
def test_hostile_values(box: Box, part: int) -> None:
    """Strict types and ranges, no NUL, no newline where it would mean something; the error says where."""
    whole = copy.deepcopy(box.config)
    for path, value in VALUES[part::4]:
        box.config = copy.deepcopy(whole)
        put(path, value)(box)
        box.write()
        assert path.split("/")[1] in refused(box), (path, value)


TEXTS = [
    ('"ociVersion": "1.0.2"', '"ociVersion": "1.0.2", "ociVersion": "1.0.2"'),
    ('"uid": 0', '"uid": 0, "uid": 0'),
    ('"uid": 0', '"uid": NaN'),
    ('"uid": 0', '"uid": Infinity'),
    ('"uid": 0', '"uid": 1e400'),
    ('"uid": 0', '"uid": 0x0'),
    ('"uid": 0', '"uid": 00'),
    ('"hostname": "box"', '"hostname": "\\ud800"'),
    ('"hostname": "box"', '"hostname": "a\tb"'),
    ('"hostname": "box"', '"hostname": "box",'),
]


def test_hostile_json(box: Box) -> None:
    """What readers differ about is no JSON: duplicate names above all."""
    text = json.dumps(box.config)
    for old, new in TEXTS:
        assert text.count(old) == 1
        (box.bundle / "config.json").write_text(text.replace(old, new))
        assert "config.json" in refused(box), new
