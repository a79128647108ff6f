"""SECURITY 17: config.json is trusted to ask, not to be well formed: one clear error, in bounded time and memory."""

from __future__ import annotations

import copy
import json
import subprocess
import tempfile
from typing import TYPE_CHECKING, Any

import pytest

from pyoci import bundle
from tests.integration import harness
from tests.integration.harness import Box, pyoci_only
from tests.security.conftest import LONG, rounds

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pyoci_only("has Go's reader")

MIB = 1 << 20
SIZE = rounds(2 * MIB, bundle.MAX_SIZE)  # bytes of an input that is too much of something
SECONDS = (1 + 0.5 * SIZE / MIB) * harness.SLOWNESS  # of the processor, three times of what it takes
MEMORY = 40 * MIB + 40 * SIZE  # resident: 8 bytes of JSON, {"a":1}, are 240 of Python


# The kernel counts what a process was before execve(2) as well: so one that is small starts it, and says what it used.
MEASURE = """
import os, resource, sys
fd, seconds = map(int, sys.argv[1:3])
os.set_inheritable(fd, False)
resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
_, status, used = os.wait4(os.posix_spawn(sys.argv[3], sys.argv[3:], os.environ), 0)
os.write(fd, b"%d %f %d" % (os.waitstatus_to_exitcode(status), used.ru_utime, used.ru_maxrss << 10))
"""


def bounded(argv: list[str], seconds: float = SECONDS) -> tuple[int, str]:
    """Exit status and messages of a command that needs no more than these seconds and MEMORY."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as report:
        subprocess.run(
            ["/usr/bin/python3", "-I", "-S", "-c", MEASURE, str(report.fileno()), str(int(seconds) + 1), *argv],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, pass_fds=[report.fileno()], check=True,
        )  # fmt: skip
        report.seek(0)
        status, spent, memory = report.read().split()
        out.seek(0)
        text = out.read().decode("utf-8", "replace")
    assert int(status) >= 0, f"more than {seconds:g} s"
    assert float(spent) < seconds
    assert int(memory) < MEMORY
    assert "Traceback" not in text
    assert "internal error" not in text
    assert len([line for line in text.splitlines() if "level=error" in line]) <= 1
    assert len(text) < MIB
    return int(status), text


def refused(box: Box, seconds: float = SECONDS) -> str:
    """create fails with one error line of sensible length, and leaves nothing behind."""
    status, text = bounded(box.argv("create", "--bundle", str(box.bundle), box.id), seconds)
    assert status == 1, text[-2000:]
    assert "level=error" in text
    assert len(text) < 64 * 1024
    assert box.entries() == set()
    return text


def many(item: str, around: str = "[@]") -> str:
    """A JSON text of SIZE: in around, at @, items, in which # is their number."""
    each = [item.replace("#", str(index)) for index in range((SIZE - 8192) // (len(item) + 1 + 6 * item.count("#")))]
    return around.replace("@", ",".join(each))


def with_text(config: dict[str, Any], path: str, text: str) -> bytes:
    """A config as bytes, with a JSON text at a pointer."""
    changed = copy.deepcopy(config)
    at = changed
    *way, last = path.split("/")[1:]
    for word in way:
        at = at.setdefault(word, {})
    at[last] = "@"
    return json.dumps(changed).replace('"@"', text).encode()


def wildcards() -> str:
    """Device rules of which each must be held against every other."""
    rules = [f'{{"allow":true,"type":"c","major":{n % 4000},"minor":{n // 4000}}}' for n in range(SIZE // 200)]
    rules += [f'{{"allow":false,"type":"c","minor":{n},"access":"w"}}' for n in range(SIZE // 200)]
    return "[" + ",".join(rules) + "]"


# name -> JSON pointer, JSON text of SIZE
LARGE: dict[str, tuple[str, Callable[[], str]]] = {
    "string": ("/hostname", lambda: '"' + "x" * (SIZE - 8192) + '"'),
    "escapes": ("/hostname", lambda: '"' + "\\u0041" * (SIZE // 6 - 8192) + '"'),
    "NULs": ("/linux/cgroupsPath", lambda: '"' + "\\u0000" * (SIZE // 6 - 8192) + '"'),
    "zeroes": ("/hostname", lambda: "\0" * (SIZE - 8192)),
    "digits": ("/hostname", lambda: "9" * (SIZE - 8192)),
    "numbers": ("/hostname", lambda: many("1")),
    "depth": ("/annotations", lambda: "[" * (SIZE - 8192)),
    "objects": ("/annotations", lambda: '{"a":' * (SIZE // 5 - 8192)),
    "late-NaN": ("/x", lambda: many("1", "[@,NaN]")),
    "late-surrogate": ("/x", lambda: many('""', r'[@,"\ud800"]')),
    "late-duplicate": ("/annotations", lambda: many('"#":""', '{@,"0":""}')),
    "keys": ("/annotations", lambda: many('"#":1', "{@}")),
    "name": ("/annotations", lambda: '{"' + "~/" * (SIZE // 2 - 8192) + '":1}'),
    "misspelt": ("/process", lambda: many('"cwd#":1', "{@}")),
    "rlimits": ("/process/rlimits", lambda: many("{}")),
    "environment": ("/process/env", lambda: many('"A=b"')),
    "late-environment": ("/process/env", lambda: many('"A=b"', r'[@,"A=\u0000"]')),
    "capabilities": ("/process/capabilities", lambda: many('"a"', '{"bounding":[@],"permitted":[1]}')),
    "groups": ("/process/user", lambda: many("1", '{"uid":0,"gid":0,"additionalGids":[@]}')),
    "namespaces": ("/linux/namespaces", lambda: many('{"type":"pid"}')),
    "mounts": ("/mounts", lambda: many('{"destination":"/","type":"bind"}')),
    "mounts-over-proc": ("/mounts", lambda: many('{"destination":"/proc/#"}')),
    "masked-paths": ("/linux/maskedPaths", lambda: many('"/"')),
    "devices": ("/linux/devices", lambda: many('{"path":"/#","type":"c"}')),
    "device-rules": ("/linux/resources/devices", wildcards),
    "network-devices": ("/linux/netDevices", lambda: many('"e#":{"name":"a"}', "{@}")),
    "sysctls": ("/linux/sysctl", lambda: many('"net.#":""', "{@}")),
    "system-calls": ("/linux/seccomp", lambda: many("{}", '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[@]}')),
}


@pytest.mark.parametrize("kind", LARGE)
def test_large(box: Box, kind: str) -> None:
    """Just below what is read at all: time and memory are those of reading it."""
    path, text = LARGE[kind]
    data = with_text(box.config, path, text())
    assert len(data) <= bundle.MAX_SIZE
    (box.bundle / "config.json").write_bytes(data)
    refused(box)


@pytest.mark.parametrize("kind", LARGE if LONG else ["name", "keys", "mounts-over-proc", "masked-paths"])
def test_validate_of_large(box: Box, kind: str) -> None:
    """It explains, looks for what is not known and makes plans, but not of any amount."""
    path, text = LARGE[kind]
    (box.bundle / "config.json").write_bytes(with_text(box.config, path, text()))
    bounded(box.argv("validate", str(box.bundle)))


FILES = [
    ("exec", "--process", '{"cwd":"/","args":["x"],"env":@}', '"A=b"'),
    ("exec", "--process", '{"cwd":"/","args":["x"],"rlimits":@}', "{}"),
    ("exec", "--process", '{"cwd":"/","args":["x"],"rlimits":@}', '{"type":"RLIMIT_CPU","soft":2,"hard":2}'),
    ("update", "--resources", '{"unified":{"x":@}}', "1"),
    ("update", "--resources", '{"hugepageLimits":@}', "{}"),
    ("mounts add", "", "@", "{}"),
    ("mounts add", "", "@", '{"destination":"/","type":"bind"}'),
]


def test_large_files(box: Box) -> None:
    """The same of the other files that are read."""
    box.up()
    file = box.bundle / "large.json"
    for verb, option, around, item in FILES:
        file.write_text(around.replace("@", many(item)))
        argv = [*verb.split(), *([option, str(file), box.id] if option else [box.id, str(file)])]
        status, text = bounded(box.argv(*argv))
        assert status not in (0, 2), (verb, item)
        assert "level=error" in text
        assert len(text) < 64 * 1024


@pytest.mark.parametrize("kind", ["refused", pytest.param("made", marks=pytest.mark.long)])
def test_100000_mounts(box: Box, kind: str) -> None:
    """As many errors in one config, and as many mounts as a namespace takes (fs.mount-max)."""
    mount: dict[str, Any] = {"type": "tmpfs", "options": ["size=1k"]}
    if kind == "refused":
        mount["options"] = [1]
    box.config["mounts"] += [{"destination": f"/m{i}", **mount} for i in range(100_000)]
    (box.bundle / "config.json").write_text(json.dumps(box.config, separators=(",", ":")))
    text = refused(box, SECONDS if kind == "refused" else 200 * harness.SLOWNESS)  # the kernel's time is in it
    assert "/mounts/" in text, text


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
    ("/mounts/0/options/0", "size=1k\0"), ("/mounts/0/options/0", "size=1k\nro"), ("/domainname", "a\nb"),
    ("/process/env/0", "A\n=b"), ("/annotations", {"a": "b\0"}), ("/annotations", {"a\0": "b"}),
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
