"""pyoci.bundle: a directory with config.json, and what may be wrong with it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pyoci import bundle, errors, json, spec


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    write(tmp_path, spec.default())
    (tmp_path / "rootfs").mkdir()
    return tmp_path


def write(directory: Path, config: Any) -> None:
    (directory / "config.json").write_text(json.dumps(config))


def refused(path: str | Path, config: str | None = None) -> errors.InvalidConfig:
    with pytest.raises(errors.InvalidConfig) as caught:
        bundle.load(str(path), config)
    return caught.value


def test_load(directory: Path) -> None:
    """L01: the config as it was written, root.path absolute (M01)."""
    loaded = bundle.load(str(directory))
    assert loaded.path == str(directory)
    assert loaded.raw == (directory / "config.json").read_bytes()
    assert loaded.config["root"]["path"] == str(directory / "rootfs")
    loaded.check_rootfs()


def test_the_path_is_absolute_and_without_symlinks(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """L15: `bundle` of the state is absolute."""
    (directory / "link").symlink_to(".")
    monkeypatch.chdir(directory)
    assert bundle.load("link/.").path == str(directory)
    assert bundle.load(".").config["root"]["path"] == str(directory / "rootfs")


def test_bind_sources_are_relative_to_the_bundle(directory: Path) -> None:
    """M05, whatever the type says; other sources are names."""
    config = spec.default()
    config["mounts"] = [
        {"destination": "/a", "source": "data", "options": ["rbind", "ro"]},
        {"destination": "/b", "source": "data", "type": "bind"},
        {"destination": "/c", "source": "/data", "type": "bind", "options": ["bind"]},
        {"destination": "/d", "source": "tmpfs", "type": "tmpfs"},
        {"destination": "/e", "type": "tmpfs"},
    ]
    write(directory, config)
    mounts = bundle.load(str(directory)).config["mounts"]
    assert [m.get("source") for m in mounts] == [f"{directory}/data", f"{directory}/data", "/data", "tmpfs", None]


def test_another_config_file(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other") / "other.json"
    other.write_text(json.dumps({**spec.default(), "hostname": "other"}))
    loaded = bundle.load(str(directory), str(other))
    assert (loaded.config["hostname"], loaded.path) == ("other", str(directory))


def test_from_config_copies(directory: Path) -> None:
    config = spec.default()
    made = bundle.from_config(config, str(directory))
    assert config == spec.default()
    assert made.config["root"]["path"] == str(directory / "rootfs")
    assert json.loads(made.raw) == config


def test_from_config_refuses_what_is_no_config(directory: Path) -> None:
    circular: list[Any] = []
    circular.append(circular)
    for wrong in ({}, {"x": b""}, {"x": float("nan")}, {"x": circular}, {"x": "\ud800"}):
        with pytest.raises(errors.InvalidConfig):
            bundle.from_config(wrong, str(directory))


def test_no_bundle(tmp_path: Path) -> None:
    """L03."""
    assert "no such file or directory" in refused(tmp_path / "nowhere").message
    assert "empty" in refused("").message
    assert refused("a\0b").message
    assert "not a directory" in refused("/etc/passwd").message
    assert refused(b"\xff".decode(errors="surrogateescape")).message


def test_no_config(tmp_path: Path) -> None:
    """L01, and a hint."""
    error = refused(tmp_path)
    assert error.message == f"{tmp_path}/config.json: no such file or directory"
    assert "pyoci spec" in error.hint


def test_not_utf8_path(tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/\xff"
    os.mkdir(odd)
    assert "not UTF-8" in refused(os.fsdecode(odd)).message


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_config_is_a_regular_file(tmp_path: Path, make: Any) -> None:
    """A FIFO without a writer must not hang, /dev/zero not fill the memory."""
    make(tmp_path / "config.json")
    assert "not a regular file" in refused(tmp_path).message


def test_size_limit(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(b" ")
    os.truncate(file, bundle.MAX_SIZE + 1)
    assert "larger than 8192 KiB" in refused(tmp_path).message


def test_read_of_a_file_without_size() -> None:
    assert bundle.read("/proc/self/status").startswith(b"Name:")
    with pytest.raises(errors.InvalidConfig):
        bundle.read("/proc/self/status", 10)


def test_every_fault_is_in_the_error(directory: Path) -> None:
    """L24."""
    write(directory, {**spec.default(), "hostname": 1, "root": {}})
    error = refused(directory)
    assert {fault.where for fault in error.faults} == {"/hostname", "/root/path"}
    assert "1 more fault" in error.message


def test_invalid_json_names_the_file(directory: Path) -> None:
    (directory / "config.json").write_text('{"a":1,"a":2}')
    assert str(refused(directory)).startswith('config.json: invalid JSON: duplicate name "a"')


def test_rootfs_is_a_directory(directory: Path) -> None:
    """M01."""
    loaded = bundle.load(str(directory))
    (directory / "rootfs").rmdir()
    with pytest.raises(errors.InvalidConfig, match="no such file or directory"):
        loaded.check_rootfs()
    (directory / "rootfs").write_text("")
    with pytest.raises(errors.InvalidConfig, match="not a directory") as caught:
        loaded.check_rootfs()
    assert caught.value.where == "/root/path"


@pytest.mark.parametrize("rootless", [False, True])
def test_default_where_there_is_cgroup_v2_only(rootless: bool) -> None:
    """As runc: a cgroup namespace more, and nothing else."""
    config, plain = spec.default(rootless, unified=True), spec.default(rootless)
    config["linux"]["namespaces"].remove({"type": "cgroup"})
    assert config == plain
