"""SECURITY 1, 2, 3, 5, 8: what the rootfs is made of decides no path of the host."""

from __future__ import annotations

import os
import select
import stat
from typing import TYPE_CHECKING

import pytest

from tests.integration.harness import Box, ConsoleSocket, pyoci_only, read_until
from tests.security.conftest import tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.security.conftest import Outside

CLIMB = "../" * 20


def link_to(kind: str, outside: Path, rootfs: Path) -> str:
    """The target of a hostile symlink."""
    target = str(outside / "dir")
    if kind == "absolute":
        return target
    if kind == "climbing":
        return CLIMB + target[1:]
    if kind == "dangling":
        return str(outside / "new/deep")
    if kind == "through a file":
        return str(outside / "file/deep")
    if kind == "magic":
        return "/proc/1/root" + target
    os.symlink(target, rootfs / "second")
    return "/second"


LINKS = ["absolute", "climbing", "dangling", "through a file", "magic", "chain"]
PLACES = ["bind", "tmpfs", "file", "mask", "readonly", "cwd", "device", "copyup"]


def use(box: Box, place: str, path: str, source: Path) -> None:
    """Let the config name a path of the container."""
    if place == "bind":
        box.bind(path, source)
    elif place == "file":
        box.bind(path, source / "content")
    elif place == "tmpfs":
        box.mount(path, "tmpfs", "tmpfs", "size=64k")
    elif place == "copyup":
        box.mount(path, "tmpfs", "tmpfs", "size=64k", "tmpcopyup")
    elif place in ("mask", "readonly"):
        box.linux[{"mask": "maskedPaths", "readonly": "readonlyPaths"}[place]].append(path)
    elif place == "cwd":
        box.process["cwd"] = path
    else:
        device = {"path": path, "type": "c", "major": 1, "minor": 5, "fileMode": 0o666, "uid": 0, "gid": 0}
        box.linux["devices"] = [device]


@pytest.fixture
def volume(box: Box) -> Path:
    return volume_of(box)


def volume_of(box: Box) -> Path:
    directory = box.bundle / "volume"
    directory.mkdir()
    (directory / "content").write_text("of the volume\n")
    return directory


@pytest.mark.parametrize("kind", LINKS)
def test_symlinks(boxes: Callable[[], Box], outside: Outside, kind: str) -> None:
    """SECURITY 1, 8: lands in the rootfs or is refused; `outside` looks at the host."""
    for place in PLACES:
        box = boxes()
        volume_of(box)
        meet(box, outside, kind, place)
        assert outside.changes() == [], place


def meet(box: Box, outside: Outside, kind: str, place: str) -> None:
    """One path of the config that leads through a hostile symlink."""
    volume = box.bundle / "volume"
    os.symlink(link_to(kind, outside.directory, box.rootfs), box.rootfs / "link")
    use(box, place, "/link/x" if place in ("device", "cwd", "file") else "/link", volume)
    box.script("pwd; ls; echo ran")
    result = box.run(check=False)
    assert "secret" not in result.out
    assert result.code == 0 or (result.code == 1 and "level=error" in result.err), result.err


@pytest.mark.parametrize("place", ["bind", "tmpfs", "cwd"])
def test_dangling_symlinks_work_inside(box: Box, outside: Outside, volume: Path, place: str) -> None:
    """SECURITY 1: a link to what is not there yet is made in the rootfs, at the same path."""
    target = f"/var/made/by/{box.id}"
    os.symlink(target, box.rootfs / "link")
    use(box, place, "/link", volume)
    box.script(f"test -d {target} && echo there")
    assert box.run().out == "there\n"


@pytest.mark.parametrize("place", ["bind", "tmpfs", "mask", "readonly", "copyup"])
def test_symlinks_lead_to_the_same_path_inside(box: Box, outside: Outside, volume: Path, place: str) -> None:
    """SECURITY 1: a link to what is there on the host, and in the rootfs as well, has its effect in the rootfs."""
    target = outside.directory / "dir"
    inside = box.rootfs / str(target)[1:]
    inside.mkdir(parents=True)
    (inside / "inner").touch()
    os.symlink(target, box.rootfs / "link")
    use(box, place, "/link", volume)
    box.script(f"cd {target}; ls; touch new || echo read-only")
    shown = {
        "bind": "content\n",
        "tmpfs": "",
        "mask": "read-only\n",
        "readonly": "inner\nread-only\n",
        "copyup": "inner\n",
    }
    assert box.run().out == shown[place]
    assert os.listdir(inside) == ["inner"]


def test_parent_of_the_root(box: Box, outside: Outside, volume: Path) -> None:
    """SECURITY 1: ".." ends at the root, also after a symlink."""
    os.symlink("/var", box.rootfs / "link")
    box.bind(f"/link/{CLIMB}{outside.directory}/dir", volume)
    assert box.sh("echo ran") == "ran\n"
    assert (box.rootfs / str(outside.directory)[1:] / "dir").is_dir()


# -- /dev -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("lookup")
@pytest.mark.parametrize("mounted", [True, False], ids=["tmpfs", "no mount"])
def test_dev_is_a_symlink(box: Box, outside: Outside, without_dev: Callable[[], None], mounted: bool) -> None:
    """SECURITY 2, CVE-2026-41579, CVE-2026-47766: no ptmx deleted, no node or link planted on the host."""
    (box.rootfs / "dev").rmdir()
    os.symlink(outside.directory, box.rootfs / "dev")
    if not mounted:
        without_dev()
    box.linux["devices"] = [{"path": "/dev/planted", "type": "c", "major": 1, "minor": 5}]
    box.process["terminal"] = False
    box.run(check=False)
    assert (outside.directory / "ptmx").read_text() == "of the host too\n"


@pytest.mark.usefixtures("lookup")
@pytest.mark.parametrize("who", ["root", "user namespace", "terminal"])
@pytest.mark.parametrize("mounted", [True, False], ids=["tmpfs", "no mount"])
def test_dev_is_a_symlink_to_a_volume(
    box: Box, outside: Outside, console: ConsoleSocket, without_dev: Callable[[], None], mounted: bool, who: str
) -> None:
    """SECURITY 2: a volume is a directory of the host; no node, link or console is made in it, and its ptmx stays."""
    (box.rootfs / "dev").rmdir()
    os.symlink("v", box.rootfs / "dev")
    if not mounted:
        without_dev()
    else:
        box.config["mounts"] = [mount for mount in box.config["mounts"] if not mount["destination"].startswith("/dev/")]
    box.bind("/v", outside.directory)
    box.linux["devices"] = [{"path": "/dev/planted", "type": "c", "major": 1, "minor": 5}]
    if who == "user namespace":
        box.userns()
        box.linux["devices"][0]["path"] = "/dev/full"
        for path in (outside.directory, outside.directory / "dir"):
            path.chmod(0o777)
        outside.before = tree(outside.directory)
    if who == "terminal":
        box.mount("/dev/pts", "devpts", "devpts", "newinstance")
        (outside.directory / "pts").mkdir()  # where that is mounted
        outside.before = tree(outside.directory)
        box.process["terminal"] = True
        box.create("--console-socket", str(console.path), check=False)
    else:
        box.run(check=False)
    assert outside.changes() == []


HOSTILE = ["symlink", "file", "device", "fifo", "directory"]


def plant(path: Path, kind: str, outside: Outside) -> None:
    """What an image has in the place of a device."""
    path.parent.mkdir(exist_ok=True)
    if kind == "symlink":
        os.symlink(outside.directory / "file", path)
    elif kind == "file":
        path.write_text("of the image\n")
    elif kind == "device":
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 11))
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()


@pyoci_only("1.1 refuses what it could replace")
@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("name", ["null", "zero", "ptmx", "fd"])
def test_devices_of_the_image(
    box: Box, outside: Outside, without_dev: Callable[[], None], name: str, kind: str
) -> None:
    """SECURITY 3, CVE-2026-88264, CVE-2026-88265: by type and number, or it is no device."""
    without_dev()
    path = box.rootfs / "dev" / name
    plant(path, kind, outside)
    before = path.lstat()
    box.args("sleep", "100")
    made = box.create(check=False)
    if kind == "directory" and name != "fd":
        assert made.code == 1
        assert "is a directory" in made.error
    elif name == "fd":  # a convenience, which the image may have in its own way
        assert made.code == 0
        assert path.lstat() == before
    elif name == "ptmx":
        assert os.readlink(path) == "pts/ptmx"
    else:
        assert stat.S_ISCHR(path.lstat().st_mode)
        assert path.lstat().st_rdev == os.makedev(1, {"null": 3, "zero": 5}[name])


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("name", ["console", "ptmx", "pts/0", "pts/ptmx"])
def test_terminal_of_the_image(
    box: Box, console: ConsoleSocket, outside: Outside, without_dev: Callable[[], None], name: str, kind: str
) -> None:
    """SECURITY 3, CVE-2025-52565: the terminal is a devpts's or there is none, and nothing is followed."""
    without_dev()
    if not name.startswith("pts"):
        (box.rootfs / "dev/pts").mkdir()
        box.mount("/dev/pts", "devpts", "devpts", "newinstance", "ptmxmode=0666", "mode=0620")
    plant(box.rootfs / "dev" / name, kind, outside)
    shown = on_terminal(box, console, "echo $(tty) $(stat -c %t:%T /dev/console)")
    if shown is not None:
        assert shown.split()[0].startswith("/dev/")
        assert "of the host" not in shown


def on_terminal(box: Box, console: ConsoleSocket, script: str) -> str | None:
    """What a script prints on its terminal, None when there is no container."""
    box.process["terminal"] = True
    box.script(script)
    if box.create("--console-socket", str(console.path), check=False).code:
        return None
    master = console.receive()
    box.start()
    shown = read_until(master, "")
    os.close(master)
    return shown


@pyoci_only("1.1 opens it by its path")
def test_slave_is_not_looked_up(box: Box, console: ConsoleSocket, without_dev: Callable[[], None]) -> None:
    """SECURITY 3, CVE-2025-52565: the multiplexer's devpts lies deeper, and /dev/pts/0 is a link of the image: only
    the master itself knows its other end."""
    without_dev()
    (box.rootfs / "dev/pts/pts").mkdir(parents=True)
    if os.statvfs(box.rootfs).f_flag & os.ST_NODEV:
        pytest.skip("devices do not work on the file system of the tests")
    os.mknod(box.rootfs / "dev/pts/ptmx", stat.S_IFCHR | 0o666, os.makedev(5, 2))
    os.symlink("/etc/passwd", box.rootfs / "dev/pts/0")
    box.mount("/dev/pts/pts", "devpts", "devpts", "newinstance", "ptmxmode=0666", "mode=0620")
    before = (box.rootfs / "etc/passwd").read_text()
    assert on_terminal(box, console, "test -t 0 && echo terminal") == "terminal\r\n"
    assert (box.rootfs / "etc/passwd").read_text() == before


@pyoci_only("1.1 opens what is there")
def test_what_is_no_multiplexer_is_not_opened(
    box: Box, console: ConsoleSocket, without_dev: Callable[[], None]
) -> None:
    """SECURITY 3: opening alone can have an effect: a watchdog begins to run; a fifo tells us of it."""
    without_dev()
    fifo = box.rootfs / "dev/pts/ptmx"
    fifo.parent.mkdir()
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    told = select.poll()
    told.register(reader)
    assert on_terminal(box, console, "true") is None
    assert told.poll(0) == []
    os.close(reader)
    assert "no devpts" in box.stderr.read_text()


@pytest.mark.usefixtures("lookup")
@pyoci_only("1.1 follows it inside the root")
def test_console_is_not_followed(box: Box, console: ConsoleSocket, without_dev: Callable[[], None]) -> None:
    """SECURITY 3, CVE-2025-52565: not inside the root either: the terminal would cover /etc/passwd."""
    without_dev()
    (box.rootfs / "dev/pts").mkdir()
    box.mount("/dev/pts", "devpts", "devpts", "newinstance", "ptmxmode=0666", "mode=0620")
    os.symlink("/etc/passwd", box.rootfs / "dev/console")
    assert on_terminal(box, console, "test -c /etc/passwd && echo covered") is None
    assert "neither file nor device" in box.stderr.read_text()


def test_a_plain_terminal(box: Box, console: ConsoleSocket) -> None:
    """The counterpart: without an attack there is one, and it is on /dev/console."""
    shown = on_terminal(box, console, "tty; stat -c %t /dev/console")
    assert shown is not None
    assert shown.split() == ["/dev/pts/0", "88"]


# -- masks ----------------------------------------------------------------------------------


@pyoci_only("1.1 refuses what it could replace")
@pytest.mark.parametrize("kind", [*HOSTILE, "missing"])
def test_what_masks_is_not_the_images(box: Box, outside: Outside, without_dev: Callable[[], None], kind: str) -> None:
    """SECURITY 5, CVE-2025-31133: the host's null device covers files, an empty directory of ours the rest."""
    without_dev()
    (box.rootfs / "dev").rmdir()
    (box.rootfs / "dev").mkdir()
    if kind != "missing":
        plant(box.rootfs / "dev/null", kind, outside)
    (box.rootfs / "etc/token").write_text("token\n")
    (box.rootfs / "etc/keys").mkdir()
    (box.rootfs / "etc/keys/key").write_text("key\n")
    box.linux["maskedPaths"] = ["/etc/token", "/etc/keys"]
    box.script("cat /etc/token; ls /etc/keys; stat -c '%t:%T' /etc/token; echo x > /etc/keys/new")
    result = box.run(check=False)
    if kind == "directory":
        assert result.out == ""
        assert "make device /dev/null" in result.error
    else:
        assert result.out == "1:3\n"
        assert "/etc/keys/new: Read-only file system" in result.err


@pytest.mark.parametrize("kind", ["file", "device", "symlink"])
def test_what_masks_is_not_that_of_a_volume(
    box: Box, outside: Outside, without_dev: Callable[[], None], kind: str
) -> None:
    """CVE-2025-31133: /dev is a bind mount, in which nothing is made: its null is not the null device."""
    without_dev()
    volume = box.bundle / "dev"
    plant(volume / "null", kind, outside)
    box.bind("/dev", volume)
    (box.rootfs / "etc/token").write_text("token\n")
    box.linux["maskedPaths"] = ["/etc/token"]
    box.script("cat /etc/token; stat -c '%t:%T' /etc/token")
    assert box.run().out == "1:3\n"


def test_what_is_read_only_cannot_be_written_to(box: Box) -> None:
    """SECURITY 5: by root, in a directory, to a file, below a symlink of the image, and to a value of the kernel."""
    for name in ("plain", "behind"):
        (box.rootfs / name).mkdir()
    os.symlink("/behind", box.rootfs / "link")
    places = ["/plain/x", "/behind/x", "/etc/passwd", "/proc/sys/kernel/domainname"]
    box.linux["readonlyPaths"] = ["/plain", "/link", "/etc/passwd", "/proc/sys"]
    box.script("".join(f"(echo x > {place}); " for place in places))
    assert box.run(check=False).err.count("Read-only file system") == len(places)
    box.linux["readonlyPaths"] = []
    assert box.run().err == ""
