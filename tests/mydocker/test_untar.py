"""Layers written to hurt: nothing outside the directory changes, and every one ends in one clear error."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyoci.mydocker import errors, streams, tarread, tree, untar
from tests.mydocker.layers import directory, hard_link, member, symlink, tar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("isolated")

OPAQUE = "trusted.overlay.opaque"


class Target:
    """A directory to unpack into, beside one that nothing may touch."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.root = top / "root"
        self.outside = top / "outside"
        self.root.mkdir()
        self.outside.mkdir()
        (self.outside / "precious").write_text("precious")
        self.before = self.look()

    def look(self) -> list[tuple[str, int, bytes]]:
        return [
            (str(path), path.stat().st_mode, path.read_bytes() if path.is_file() else b"")
            for path in sorted([self.top, self.outside, *self.outside.iterdir(), *self.top.iterdir()])
            if path != self.root and path != self.top
        ]

    def unpack(self, data: bytes, **limits: int) -> untar.Unpacker:
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            unpacker = untar.Unpacker(fd, tarread.Limits(**limits))
            unpacker.unpack(streams.HashingReader(io.BytesIO(data), "the layer", 1 << 30))
        finally:
            os.close(fd)
        return unpacker


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    found = Target(tmp_path)
    yield found
    assert found.look() == found.before, "something outside the layer changed"


def test_plain(target: Target) -> None:
    """Owners, modes, times, set-uid, links, empty files."""
    data = tar(
        directory("etc", mode=0o750, uid=7, gid=8, mtime=1000),
        member("etc/passwd", b"root", mode=0o4755, uid=1000, gid=100, mtime=1234567890),
        hard_link("etc/passwd-", "etc/passwd"),
        symlink("etc/mtab", "/proc/self/mounts"),
        member("deep/er/empty"),
    )
    target.unpack(data)
    passwd = (target.root / "etc/passwd").stat()
    assert (passwd.st_uid, passwd.st_gid, stat.S_IMODE(passwd.st_mode), passwd.st_mtime) == (
        1000,
        100,
        0o4755,
        1234567890,
    )
    assert passwd.st_nlink == 2
    etc = (target.root / "etc").stat()
    assert (etc.st_uid, etc.st_gid, stat.S_IMODE(etc.st_mode), etc.st_mtime) == (7, 8, 0o750, 1000)
    assert os.readlink(target.root / "etc/mtab") == "/proc/self/mounts"
    assert (target.root / "deep/er/empty").read_bytes() == b""


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("/absolute", "absolute"),
        ("./dot", "dot"),
        ("a//b/./c", "a/b/c"),
        ("name\\with\nodd\x1b", "name\\with\nodd\x1b"),
    ],
)
def test_odd_names(target: Target, name: str, where: str) -> None:
    target.unpack(tar(member(name, b"x")))
    assert (target.root / where).read_bytes() == b"x"


@pytest.mark.parametrize(
    "name",
    ["../outside/new", "a/../../outside/new", "..", "a/..", "/../outside/new", "a/" * 200 + "b", "n" * 256, ".wh...",
     ".wh..", ".wh.", "a/.wh.../b", "a/.wh.b/c", "x" * 200 + "/" + "y/" * 3000],
)  # fmt: skip
def test_bad_names(target: Target, name: str) -> None:
    with pytest.raises(errors.Hostile, match="cannot unpack"):
        target.unpack(tar(member(name, b"x")))


@pytest.mark.parametrize(
    "link", ["../outside", "/../outside", "../../../../../../..", "/", "..", "/proc/self/root", "/proc/self/cwd"]
)
@pytest.mark.parametrize("below", ["new", "outside/precious", "precious"])
def test_through_a_symlink(target: Target, link: str, below: str) -> None:
    """A symlink of the layer is followed below the layer's root, or not at all."""
    data = tar(symlink("link", link), member(f"link/{below}", b"hacked"))
    try:
        target.unpack(data)
    except errors.Hostile:
        return
    found = [path for path in target.root.rglob("*") if path.is_file() and not path.is_symlink()]
    assert [path.read_bytes() for path in found] == [b"hacked"]


def test_absolute_symlink_to_a_host_path(target: Target) -> None:
    data = tar(symlink("link", str(target.outside)), member("link/new", b"hacked"))
    with pytest.raises(errors.Hostile):
        target.unpack(data)  # there is no such directory below the root


def test_symlink_inside(target: Target) -> None:
    """/var/run -> /run in the same layer: what goes through it lands in /run."""
    target.unpack(tar(directory("run"), symlink("var/run", "/run"), member("var/run/pid", b"1")))
    assert (target.root / "run/pid").read_bytes() == b"1"


def test_file_through_its_own_symlink(target: Target) -> None:
    """The last component is replaced, never followed."""
    victim = target.outside / "precious"
    target.unpack(tar(symlink("a", str(victim)), member("a", b"x"), symlink("d", str(target.outside)), directory("d")))
    assert (target.root / "a").read_bytes() == b"x"
    assert not (target.root / "a").is_symlink()
    assert (target.root / "d").is_dir()
    assert not (target.root / "d").is_symlink()


@pytest.mark.parametrize(
    "link", ["../outside/precious", "/outside/precious", "missing", "dir", "", "/", ".wh.gone", "gone", "sym/precious"]
)
def test_bad_hard_links(target: Target, link: str) -> None:
    data = tar(
        directory("dir"),
        member("dir/.wh.x"),
        member(".wh.gone"),
        symlink("sym", str(target.outside)),
        hard_link("new", link),
    )
    with pytest.raises(errors.Hostile, match="a hard link to|a path with"):
        target.unpack(data)
    assert (target.outside / "precious").stat().st_nlink == 1


def test_hard_link_to_a_symlink(target: Target) -> None:
    """The symlink gets a second name; what it points to does not."""
    target.unpack(tar(symlink("a", str(target.outside / "precious")), hard_link("b", "a")))
    assert (target.root / "b").is_symlink()
    assert (target.outside / "precious").stat().st_nlink == 1


def test_devices(target: Target) -> None:
    data = tar(
        member("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        member("disk", type=tarfile.BLKTYPE, devmajor=8, devminor=0, mode=0o600, uid=5),
        member("fifo", type=tarfile.FIFOTYPE, mode=0o622),
    )
    target.unpack(data)
    null, disk, fifo = (os.lstat(target.root / name) for name in ("null", "disk", "fifo"))
    assert (stat.S_ISCHR(null.st_mode), null.st_rdev, stat.S_IMODE(null.st_mode)) == (True, os.makedev(1, 3), 0o666)
    assert (stat.S_ISBLK(disk.st_mode), disk.st_rdev, disk.st_uid) == (True, os.makedev(8, 0), 5)
    assert stat.S_ISFIFO(fifo.st_mode)


@pytest.mark.parametrize(("major", "minor"), [(0, 0), (1 << 12, 0), (1, 1 << 20)])
def test_bad_devices(target: Target, major: int, minor: int) -> None:
    with pytest.raises(errors.Hostile, match="the device"):
        target.unpack(tar(member("x", type=tarfile.CHRTYPE, devmajor=major, devminor=minor)))


def test_devices_of_an_ordinary_user(target: Target) -> None:
    fd = os.open(target.root, os.O_RDONLY)
    unpacker = untar.Unpacker(fd, tarread.Limits(), userns=True)
    unpacker.unpack(
        io.BytesIO(tar(member("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3), member("d/.wh..wh..opq")))
    )
    assert "left out the device" in unpacker.warnings[0]
    assert os.getxattr(target.root / "d", "user.overlay.opaque") == b"y"
    os.close(fd)


def test_whiteouts(target: Target) -> None:
    data = tar(
        member("etc/.wh.passwd"),
        directory("opt"),
        member("opt/.wh..wh..opq"),
        member("opt/kept", b"k"),
        member(".wh..wh.plnk"),
        member("new", b"n"),
        member(".wh.new"),
        directory("there"),
        member(".wh.there"),
        member(".wh.again"),
        directory("again"),
        member(".wh.file"),
        member("file", b"f"),
    )
    target.unpack(data)
    gone = os.lstat(target.root / "etc/passwd")
    assert stat.S_ISCHR(gone.st_mode)
    assert gone.st_rdev == 0
    assert os.getxattr(target.root / "opt", OPAQUE) == b"y"
    assert (target.root / "opt/kept").read_bytes() == b"k"
    assert (target.root / "new").read_bytes() == b"n", "a whiteout hides lower layers only"
    assert os.getxattr(target.root / "there", OPAQUE) == b"y"
    assert os.getxattr(target.root / "again", OPAQUE) == b"y", "removed and made anew hides what was there"
    assert (target.root / "file").read_bytes() == b"f"
    assert not list(target.root.rglob(".wh.*"))


def test_xattrs(target: Target) -> None:
    """Those of the file are kept; those that overlayfs or the kernel would believe are not."""
    capability = b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    headers = {
        "SCHILY.xattr.security.capability": capability.decode("utf-8", "surrogateescape"),
        "SCHILY.xattr.user.note": "hé\udcff",
        "SCHILY.xattr.trusted.overlay.redirect": "/../../etc",
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.user.overlay.opaque": "y",
        "SCHILY.xattr.trusted.other": "x",
        "SCHILY.xattr.security.ima": "x",
    }
    target.unpack(tar(member("f", b"x", pax_headers=headers), directory("d", pax_headers=headers)))
    assert set(os.listxattr(target.root / "f")) == {"security.capability", "user.note"}
    assert os.getxattr(target.root / "f", "user.note") == "hé".encode() + b"\xff"
    assert os.getxattr(target.root / "f", "security.capability")[:8] == capability[:8]
    assert "trusted.overlay.redirect" not in os.listxattr(target.root / "d")
    assert OPAQUE not in os.listxattr(target.root / "d")


def test_sparse(target: Target) -> None:
    """A tar with a map of holes, and a long run of zeros: neither takes the space."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as file:
        info = tarfile.TarInfo("sparse")
        body = b"2\n0\n5\n1048576\n5\n".ljust(512, b"\0") + b"hello" + b"world"
        info.size = len(body)
        info.pax_headers = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": "sparse",
            "GNU.sparse.realsize": str(1048581),
        }
        file.addfile(info, io.BytesIO(body))
        zeros = tarfile.TarInfo("zeros")
        zeros.size = 8 << 20
        file.addfile(zeros, io.BytesIO(bytes(8 << 20)))
    target.unpack(raw.getvalue())
    found = (target.root / "sparse").read_bytes()
    assert (found[:5], found[1048576:], len(found)) == (b"hello", b"world", 1048581)
    assert (target.root / "zeros").stat().st_size == 8 << 20
    assert (target.root / "zeros").stat().st_blocks == 0


@pytest.mark.parametrize("entries", ["2\n0\n5\n3\n5\n", "1\n-5\n5\n", "1\n0\n-5\n", "1\n9999999999\n5\n", "x\n"])
def test_bad_sparse(target: Target, entries: str) -> None:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as file:
        body = entries.encode().ljust(512, b"\0") + b"helloworld"
        info, _ = member("sparse", body)
        info.pax_headers = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": "s",
            "GNU.sparse.realsize": "100",
        }
        file.addfile(info, io.BytesIO(body))
    with pytest.raises(errors.Hostile):
        target.unpack(raw.getvalue())


@pytest.mark.parametrize(
    "fields",
    [{"uid": 0xFFFFFFFF}, {"gid": 1 << 40}, {"type": b"V"}, {"type": b"Z"}],
)
def test_bad_fields(target: Target, fields: dict[str, Any]) -> None:
    with pytest.raises(errors.Hostile):
        target.unpack(tar(member("x", **fields)))


@pytest.mark.parametrize("mtime", [1 << 50, -5, float("1e300")])
def test_odd_times(target: Target, mtime: float) -> None:
    """A time that cannot be is none, and no error: other tools write such."""
    target.unpack(tar(member("x", pax_headers={"mtime": str(mtime)})))
    assert (target.root / "x").stat().st_mtime == 0


def test_limits(target: Target) -> None:
    many = tar(*[member(f"f{number}") for number in range(20)])
    with pytest.raises(errors.Hostile, match="more than 10 entries"):
        target.unpack(many, entries=10)
    with pytest.raises(errors.Hostile, match="a file of 1000 bytes"):
        target.unpack(tar(member("big", bytes(1000))), size=999)
    with pytest.raises(errors.Hostile, match="deeper than 3"):
        target.unpack(tar(member("a/b/c/d")), depth=3)


def test_depth_through_symlinks(target: Target) -> None:
    """Each name is short; the directory they add up to is not, and could not be removed by who recurses."""
    chain = [directory("0/1/2/3/4/5/6/7/8/9"), symlink("s1", "0/1/2/3/4/5/6/7/8/9")]
    # the kernel follows 40, and counts twice what it had to walk again
    for number in range(1, 18):
        chain += [directory(f"s{number}/1/2/3/4/5/6/7/8/9"), symlink(f"s{number + 1}", f"s{number}/1/2/3/4/5/6/7/8/9")]
    with pytest.raises(errors.Hostile, match="deeper than"):
        target.unpack(tar(*chain))


def test_extended_header_is_bounded(target: Target) -> None:
    """tarfile would read all of it into memory."""
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 7 << 30
    with pytest.raises(errors.Hostile, match="an extended header of"):
        target.unpack(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))


def test_broken_tars(target: Target) -> None:
    good = tar(member("a", b"x" * 5000), member("b", b"y" * 5000))
    for cut in (100, 600, 3000, 6000, 7000):
        with pytest.raises(errors.Hostile):
            target.unpack(good[:cut])
    noise = bytearray(good)
    noise[5632 + 100] ^= 0xFF  # in the second header
    with pytest.raises(errors.Hostile, match="the tar is damaged"):
        target.unpack(bytes(noise))
    with pytest.raises(errors.Hostile, match="the tar is damaged"):
        target.unpack(b"this is no tar" * 100)


def test_ten_thousand_entries(target: Target) -> None:
    """All of them, and the memory of tarfile does not grow with them."""
    target.unpack(tar(*[member(f"d{number % 100}/f{number}", b"x") for number in range(10_000)]))
    assert sum(len(names) for _, _, names in os.walk(target.root)) == 10_000


def test_duplicates(target: Target) -> None:
    """The last one wins, whatever kinds they are."""
    data = tar(
        member("a", b"1"), directory("a"), member("a/b", b"2"), symlink("a", "nowhere"), member("a", b"3"),
        directory("d/e/f"), member("d/e/f/g", b"4"), member("d/e", b"5"), directory("d", mode=0o700),
        member("d/h", b"6"),
    )  # fmt: skip
    target.unpack(data)
    assert (target.root / "a").read_bytes() == b"3"
    assert (target.root / "d/e").read_bytes() == b"5"
    assert (target.root / "d/h").read_bytes() == b"6"
    assert stat.S_IMODE((target.root / "d").stat().st_mode) == 0o700


NAME = st.lists(
    st.sampled_from(["a", "b", "..", ".", "", "link", ".wh.a", "outside", "precious"]), min_size=1, max_size=5
)
KIND = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(NAME, KIND, NAME), max_size=8))
def test_any_layer(tmp_path: Path, entries: list[tuple[list[str], bytes, list[str]]]) -> None:
    """Whatever the members are: outside nothing changes, and nothing but our errors is raised."""
    tree.remove(str(tmp_path / "any"))
    (tmp_path / "any").mkdir()
    target = Target(tmp_path / "any")
    held = os.listdir("/proc/self/fd")
    members = [
        member("/".join(name), b"x" if kind == tarfile.REGTYPE else b"", type=kind, linkname="/".join(link))
        for name, kind, link in entries
    ]
    try:
        target.unpack(tar(*members))
    except errors.Error:
        pass
    assert target.look() == target.before
    assert set(os.listdir("/proc/self/fd")) <= set(held), "descriptors leak"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=3000), st.integers(0, 4000))
def test_noise(tmp_path: Path, noise: bytes, at: int) -> None:
    """A tar with noise in it."""
    tree.remove(str(tmp_path / "any"))
    (tmp_path / "any").mkdir()
    target = Target(tmp_path / "any")
    good = tar(directory("a"), member("a/b", b"x" * 700, pax_headers={"SCHILY.xattr.user.a": "b"}), symlink("c", "a"))
    try:
        target.unpack(good[:at] + noise + good[at + len(noise) :])
    except errors.Error:
        pass
    assert target.look() == target.before
