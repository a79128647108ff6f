"""Errors: L06 L21 L22 L23 L24, the log file, and nothing left behind: every test here ends with the leftovers check."""

from __future__ import annotations

import json
import os
from datetime import datetime
from typing import Any

import pytest

from tests.integration.harness import Box, Result, children, pyoci_only, until

# what to set in a good config (a path of keys), and words that the error must have
BAD: list[tuple[str, Any, str]] = [
    ("ociVersion", None, "ociVersion"),
    ("ociVersion", "one", "ociVersion"),
    ("ociVersion", "2.0.0", "ociVersion"),
    ("process/args", None, "args"),
    ("process/args", [], "args"),
    ("process/args", ["true", 1], "args/1"),
    ("process/args", ["tr\0ue"], "args/0"),
    ("process/cwd", None, "cwd"),
    ("process/cwd", "relative", "cwd"),
    ("process/env", ["A=1", "B\0=1"], "env/1"),
    ("process/user/uid", -1, "uid"),
    ("process/user/uid", 1 << 32, "uid"),
    ("process/user/uid", True, "uid"),
    ("process/user/uid", 1.0, "uid"),
    ("process/user/uid", "0", "uid"),
    ("process/user/umask", 0o10000, "umask"),
    ("process/oomScoreAdj", 2000, "oomScoreAdj"),
    ("process/terminal", "yes", "terminal"),
    ("root", None, "root"),
    ("root/path", "", "root"),
    ("root/path", 1, "root/path"),
    ("hostname", "two\nlines", "hostname"),
    ("hostname", "x" * 65, "hostname"),
    ("mounts", {}, "mounts"),
    ("mounts/0", {"type": "tmpfs"}, "mounts/0"),
    ("mounts/0/options", "ro", "mounts/0/options"),
    ("mounts/0/destination", "a\0b", "mounts/0"),
    ("linux/namespaces", [{"type": "frob"}], "namespaces/0"),
    ("linux/namespaces", [{"type": "mount"}, {"type": "mount"}], "namespaces"),
    ("linux/sysctl", {"net.ipv4.ip_forward": 1}, "sysctl"),
    ("linux/cgroupsPath", 7, "cgroupsPath"),
    ("linux/resources/memory", {"limit": "1g"}, "limit"),
    ("linux/rootfsPropagation", "sideways", "rootfsPropagation"),
    ("linux/maskedPaths", "/proc", "maskedPaths"),
    ("annotations", {"": "x"}, "annotations"),
    ("annotations", {"a": 1}, "annotations"),
    ("hooks", {"prestart": [{"path": "relative"}]}, "hooks"),
]


def set_value(config: dict[str, Any], path: str, value: Any) -> None:
    """Set (or, with None, remove) what a path like "process/user/uid" names."""
    at: Any = config
    *parents, last = path.split("/")
    for key in parents:
        at = at[int(key) if isinstance(at, list) else key]
    if value is None:
        del at[last]
    else:
        at[int(last) if isinstance(at, list) else last] = value


def assert_refused(box: Box, result: Result) -> None:
    """One line that says why; no container, no process, no output."""
    assert result.code == 1
    assert result.out == ""
    assert len(result.err.strip().splitlines()) == 1, result.err
    assert "Traceback" not in result.err
    assert box.entries() == set()
    until(lambda: not children(), "no process")


@pyoci_only("takes half of them, and names fields of Go structs")
@pytest.mark.parametrize(("path", "value", "words"), BAD, ids=lambda value: str(value)[:30])
def test_bad_config(box: Box, path: str, value: Any, words: str) -> None:
    """L24 SECURITY 17: refused before anything is made, with the place in config.json."""
    set_value(box.config, path, value)
    result = box.create(check=False)
    assert_refused(box, result)
    assert words in result.error
    assert "config.json" in result.error


@pyoci_only("stops at the first")
def test_all_faults_are_counted(box: Box) -> None:
    """An error of several faults says how many more there are."""
    set_value(box.config, "process/cwd", "relative")
    set_value(box.config, "linux/rootfsPropagation", "sideways")
    set_value(box.config, "hostname", "x" * 65)
    result = box.create(check=False)
    assert_refused(box, result)
    assert "2 more" in result.error


TEXTS = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"ociVersion": "1.0.2", "ociVersion": "1.0.2"}',
    b'{"ociVersion": NaN}',
    b'{"a": Infinity}',
    b'{"a": "\\ud800"}',
    b'{"a": "\xff"}',
    b'{"a": 1} x',
    b"[" * 300000,
    b'{"a":' * 100000,
    b'{"a": 1e999999}',
    b'{"a": ' + b"9" * 10000 + b"}",
]


@pyoci_only("has Go's JSON: takes several of them")
@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:24].decode("latin-1"))
def test_bad_json(box: Box, text: bytes) -> None:
    """L01 L24 SECURITY 17: one clear error, bounded time, never a traceback."""
    (box.bundle / "config.json").write_bytes(text)
    result = box.rt("create", "--bundle", str(box.bundle), box.id, check=False)
    assert_refused(box, result)
    assert "config.json" in result.error


@pytest.mark.parametrize("kind", ["directory", "link", pytest.param("fifo", marks=pyoci_only("waits for a writer"))])
def test_config_that_is_no_file(box: Box, kind: str) -> None:
    """L01: never a hang."""
    config = box.bundle / "config.json"
    if kind == "directory":
        config.mkdir()
    elif kind == "link":
        config.symlink_to("nowhere")
    else:
        os.mkfifo(config)
    result = box.rt("create", "--bundle", str(box.bundle), box.id, check=False)
    assert result.code == 1
    assert "config.json" in result.error
    assert box.entries() == set()


@pyoci_only("1.1 takes no 1.3")
def test_later_minor_versions_and_unknown_properties(box: Box) -> None:
    """L02 L23: accepted."""
    box.config["ociVersion"] = "1.9.0"
    box.config["zzz"] = {"x": [1, 2]}
    box.process["zzz"] = 1
    box.linux["zzz"] = 1
    assert box.output("echo", "fine") == "fine\n"


def test_unknown_properties(box: Box) -> None:
    """L23: ignored."""
    box.config["zzz"] = {"x": [1, 2]}
    box.process["zzz"] = 1
    assert box.output("echo", "fine") == "fine\n"


# -- the log --------------------------------------------------------------------------------


def log_lines(text: str) -> list[dict[str, Any]]:
    """The lines of a JSON log: each an object with what go-runc and podman read."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        assert set(line) >= {"level", "msg", "time"}
        assert datetime.fromisoformat(line["time"]).tzinfo is not None
    return lines


def test_json_log(box: Box) -> None:
    """ENGINE-CONTRACT 2.3: one error line in the log; the same words on stderr."""
    log = box.bundle / "log.json"
    box.args("nosuch")
    box.write()
    options = ("--log", str(log), "--log-format", "json")
    result = box.rt(*options, "create", "--bundle", str(box.bundle), box.id, check=False)
    assert result.code == 1
    (line,) = log_lines(log.read_text())
    assert line["level"] == "error"
    assert 'exec: "nosuch": executable file not found in $PATH' in line["msg"]
    assert line["msg"] in result.err.replace('\\"', '"')


def test_json_log_of_a_success_is_empty(box: Box) -> None:
    log = box.bundle / "log.json"
    box.write()
    box.rt("--log", str(log), "--log-format=json", "run", "--bundle", str(box.bundle), box.id)
    assert not log.exists() or log.read_text() == ""


def test_log_is_appended(box: Box) -> None:
    """Every verb of a container writes to one file."""
    log = box.bundle / "log.json"
    for _ in range(2):
        box.rt("--log", str(log), "--log-format", "json", "state", box.id, check=False)
    lines = log_lines(log.read_text())
    assert len(lines) == 2
    assert all("container does not exist" in line["msg"] for line in lines)


def test_text_log(box: Box) -> None:
    log = box.bundle / "log"
    box.rt("--log", str(log), "state", box.id, check=False)
    assert "level=error" in log.read_text()
    assert "container does not exist" in log.read_text()


def test_log_that_cannot_be_written(box: Box) -> None:
    """An error of its own, not silence."""
    result = box.rt("--log", "/no/such/dir/log", "state", box.id, check=False)
    assert result.code != 0
    assert "/no/such/dir/log" in result.err


def test_debug_is_no_obstacle(box: Box) -> None:
    """--debug says more, and everything works."""
    box.args("echo", "fine")
    box.write()
    log = box.bundle / "log"
    shown = box.rt("--debug", "--log", str(log), "run", "--bundle", str(box.bundle), box.id)
    assert shown.out == "fine\n"
    assert "level=debug" in log.read_text()


def test_warnings_do_not_change_the_outcome(box: Box) -> None:
    """L22: a warning on stderr, exit code 0, nothing on stdout."""
    box.caps("CAP_FROB")
    box.args("echo", "fine")
    result = box.run()
    assert (result.code, result.out) == (0, "fine\n")
    assert "level=warning" in result.err


def test_state_of_another_user_is_one_line(box: Box) -> None:
    """A root that is a file: one line, no traceback."""
    box.root.write_text("")
    result = box.rt("state", box.id, check=False)
    box.root.unlink()
    assert result.code != 0
    assert "Traceback" not in result.err


def test_damaged_state(box: Box) -> None:
    """SECURITY 19: files of the state cut short: one line of error, no traceback; the container is not harmed."""
    box.create()
    pid = box.pid
    files = {file: file.read_bytes() for file in (box.root / box.id).iterdir() if file.is_file()}
    for file, whole in files.items():
        file.write_bytes(whole[: len(whole) // 2])
    result = box.rt("state", box.id, check=False)
    for file, whole in files.items():
        file.write_bytes(whole)
    assert result.code != 0
    assert "Traceback" not in result.err
    assert len(result.err.splitlines()) == 1
    assert box.pid == pid


def test_what_a_failed_create_leaves(box: Box) -> None:
    """What the config made it put into the root file system, as with runc, and the state root; nothing in that."""
    before = {*box.rootfs.rglob("*")}
    box.bind("/made/deep", box.bundle)
    box.bind("/made/file", box.bundle / "config.json")
    box.linux["devices"] = [{"path": "/var/node", "type": "c", "major": 1, "minor": 5}]
    box.process["cwd"] = "/var/cwd"
    box.args("/no/such/program")
    assert box.create(check=False).code == 1
    made = {str(path.relative_to(box.rootfs)) for path in {*box.rootfs.rglob("*")} - before}
    assert made == {"made", "made/deep", "made/file", "var/node", "var/cwd"}
    assert [*box.root.iterdir()] == []
