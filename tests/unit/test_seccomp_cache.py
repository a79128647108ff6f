"""S11: compiled profiles are kept, and nothing but a whole entry of one's own for that very profile is used."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pyoci import errors, kernel
from pyoci.host import seccomp_cache
from pyoci.plan import seccomp

ROOT = Path(__file__).resolve().parents[2]
STRICT: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "syscalls": [{"names": ["read", "no_such_call"], "action": "SCMP_ACT_ALLOW"}],
}
LOOSE: dict[str, Any] = {"defaultAction": "SCMP_ACT_ALLOW", "flags": []}


def get(profile: dict[str, Any], directory: Path, arch: str = "x86_64") -> tuple[bytes, int, bool, list[str]]:
    program = seccomp_cache.compiled(profile, arch, str(directory))
    return program.code, program.flags, program.listener, program.warnings


def fresh(profile: dict[str, Any], arch: str = "x86_64") -> tuple[bytes, int, bool, list[str]]:
    program = seccomp.compile(profile, arch)
    return program.code, program.flags, program.listener, program.warnings


@pytest.fixture
def compiles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The machines compile was called for."""
    calls: list[str] = []
    original = seccomp.compile

    def spy(profile: dict[str, Any], arch: str) -> seccomp.Program:
        calls.append(arch)
        return original(profile, arch)

    monkeypatch.setattr(seccomp, "compile", spy)
    return calls


def test_hit(tmp_path: Path, compiles: list[str]) -> None:
    cache = tmp_path / "cache"
    listener = {**STRICT, "listenerPath": "/l", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}
    for profile in (STRICT, LOOSE, listener):
        assert get(profile, cache) == get(profile, cache) == fresh(profile)
    assert len(compiles) == 6  # three misses, and fresh's own
    assert get(STRICT, cache, "aarch64") == fresh(STRICT, "aarch64") != get(STRICT, cache)
    assert len(list(cache.iterdir())) == 4


def test_modes(tmp_path: Path) -> None:
    """Attack class 19: 0700 and 0600, whatever the umask, and no temporary file stays."""
    cache = tmp_path / "cache"
    before = os.umask(0)
    try:
        get(STRICT, cache)
    finally:
        os.umask(before)
    assert cache.stat().st_mode & 0o7777 == 0o700
    assert [path.stat().st_mode & 0o7777 for path in cache.iterdir()] == [0o600]


def test_invalid_profile(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidConfig):
        get({"defaultAction": "SCMP_ACT_DENY"}, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 60, 100, -1, -33])
def test_cut_short(tmp_path: Path, compiles: list[str], size: int) -> None:
    """A crash while writing."""
    get(STRICT, tmp_path)
    (entry,) = tmp_path.iterdir()
    entry.write_bytes(entry.read_bytes()[:size])
    assert get(STRICT, tmp_path) == fresh(STRICT)
    assert get(STRICT, tmp_path) == fresh(STRICT)
    assert len(compiles) == 4  # written anew the first time


def test_every_byte_counts(tmp_path: Path) -> None:
    get(STRICT, tmp_path)
    (entry,) = tmp_path.iterdir()
    whole = entry.read_bytes()
    for at in range(len(whole)):
        entry.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert seccomp_cache._load(str(entry), bytes.fromhex(entry.name)) is None


def test_moved_entry(tmp_path: Path) -> None:
    """The entry of a loose profile under the name of a strict one, by rename or by link."""
    get(LOOSE, tmp_path)
    (loose,) = tmp_path.iterdir()
    get(STRICT, tmp_path)
    (strict,) = set(tmp_path.iterdir()) - {loose}
    for place in (os.link, os.symlink, os.rename):
        strict.unlink()
        place(loose, strict)
        assert get(STRICT, tmp_path) == fresh(STRICT)
        assert not strict.is_symlink()


def test_link_elsewhere(tmp_path: Path) -> None:
    """A symlink under the name is not followed, even to a good entry: it is replaced."""
    cache = tmp_path / "cache"
    get(STRICT, cache)
    (entry,) = cache.iterdir()
    entry.rename(tmp_path / "good")
    entry.symlink_to(tmp_path / "good")
    assert get(STRICT, cache) == fresh(STRICT)
    assert not entry.is_symlink()


def test_readable_by_others(tmp_path: Path, compiles: list[str]) -> None:
    get(STRICT, tmp_path)
    (entry,) = tmp_path.iterdir()
    for mode in (0o604, 0o620, 0o666):
        entry.chmod(mode)
        compiles.clear()
        assert get(STRICT, tmp_path) == fresh(STRICT)
        assert len(compiles) == 2


def test_foreign_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiles: list[str]) -> None:
    get(STRICT, tmp_path)
    own = os.geteuid()
    monkeypatch.setattr(kernel, "geteuid", lambda: own + 1)
    compiles.clear()
    assert get(STRICT, tmp_path) == fresh(STRICT)
    assert len(compiles) == 2


def test_not_a_file(tmp_path: Path) -> None:
    """A fifo under the name does not block, a directory does not confuse."""
    get(STRICT, tmp_path)
    (entry,) = tmp_path.iterdir()
    entry.unlink()
    os.mkfifo(entry, 0o600)
    assert get(STRICT, tmp_path) == fresh(STRICT)
    entry.unlink()
    entry.mkdir(0o700)
    assert get(STRICT, tmp_path) == fresh(STRICT)
    assert list(tmp_path.iterdir()) == [entry]


@pytest.mark.parametrize("directory", ["missing/cache", "file"])
def test_no_directory(tmp_path: Path, directory: str) -> None:
    """A cache that cannot be written is no error."""
    (tmp_path / "file").touch()
    assert get(STRICT, tmp_path / directory) == fresh(STRICT)


def test_full(tmp_path: Path) -> None:
    """Profiles of yesterday do not pile up."""
    for number in range(seccomp_cache.MAX_ENTRIES):
        (tmp_path / f"{number}").touch()
    get(STRICT, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_large_warnings(tmp_path: Path) -> None:
    """An entry too large to be read back is not written."""
    names = [f"no_such_call_{number}" for number in range(20_000)]
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": names, "action": "SCMP_ACT_KILL"}]}
    assert get(profile, tmp_path) == fresh(profile)
    assert list(tmp_path.iterdir()) == []


def test_hit_imports(tmp_path: Path) -> None:
    """The tables and the compiler stay unloaded on a hit; so does all that the hot path's budget excludes."""
    get(STRICT, tmp_path)
    script = (
        "import sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "before = set(sys.modules)\n"
        "from pyoci.host import seccomp_cache\n"
        f"seccomp_cache.compiled({STRICT!r}, 'x86_64', {str(tmp_path)!r})\n"
        "print(*sorted(set(sys.modules) - before))\n"
    )
    done = subprocess.run(["/usr/bin/python3", "-I", "-S", "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"pyoci.plan.syscalls", "pyoci.plan.seccomp_filter", "pyoci.plan.bpf", "hashlib", "typing"}
