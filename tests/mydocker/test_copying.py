"""mydocker cp: both sides may change meanwhile; what was made gets owner, mode and times, and nothing in its place."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from pyoci.mydocker import errors
from pyoci.mydocker.copying import Side, copy

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")


class Exchange:
    """As soon as the copy is there, something else has its name: a hard link to a secret of root's."""

    def __init__(self, directory: Path, secret: Path) -> None:
        self.directory = directory
        self.secret = secret

    def __call__(self, name: str) -> None:
        os.link(self.secret, self.directory / "link")
        os.rename(self.directory / "link", self.directory / name)


@pytest.mark.parametrize("owner", [False, True])
@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, owner: bool) -> None:
    source, inside, secret = tmp_path / "source", tmp_path / "container", tmp_path / "secret"
    inside.mkdir()
    secret.write_text("secret")
    secret.chmod(0o600)
    source.write_text("text") if kind == "file" else source.symlink_to("text")
    os.chown(source, 1000, 1000, follow_symlinks=False)
    exchange = Exchange(inside, secret)
    call = "write" if kind == "file" else "symlink"
    real = getattr(os, call)

    def exchanging(*args: object, **named: object) -> object:
        done = real(*args, **named)
        exchange("copy")
        return done

    monkeypatch.setattr(os, call, exchanging)
    root = os.open(inside, os.O_PATH)
    copy(Side(-1, str(source)), Side(root, "/copy"), owner=owner, follow=False)
    os.close(root)
    status = secret.stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (0, 0o600)
    assert os.path.samefile(inside / "copy", secret), "it was exchanged"


def test_owners_modes_and_times(tmp_path: Path) -> None:
    """What -a keeps, of files, links and directories."""
    source = tmp_path / "source"
    source.mkdir(mode=0o750)
    (source / "file").write_text("text")
    (source / "file").chmod(0o4755)
    (source / "link").symlink_to("file")
    for path in (source, source / "file", source / "link"):
        os.chown(path, 1000, 1001, follow_symlinks=False)
    os.utime(source / "file", ns=(5, 6))
    os.utime(source, ns=(7, 8))
    copy(Side(-1, str(source)), Side(-1, str(tmp_path / "copy")), owner=True, follow=False)
    made = tmp_path / "copy"
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in (made, made / "file", made / "link")} == {
        (1000, 1001)
    }
    assert stat.S_IMODE((made / "file").stat().st_mode) == 0o755
    assert stat.S_IMODE(made.stat().st_mode) == 0o750
    assert ((made / "file").stat().st_mtime_ns, made.stat().st_mtime_ns) == (6, 8)


def nested(top: Path, levels: int) -> None:
    """Directories in one another, a file in the last."""
    for depth in range(levels):
        top = top / "d"
        top.mkdir()
        if depth == levels - 1:
            (top / "file").write_text("text")


def test_as_deep_as_can_be(tmp_path: Path) -> None:
    """One error where it ends, and no thousand lines of recursion, nor too many open files."""
    for levels in (199, 600):
        (tmp_path / str(levels)).mkdir()
        nested(tmp_path / str(levels), levels)
    copy(Side(-1, str(tmp_path / "199")), Side(-1, str(tmp_path / "copy")), owner=False, follow=False)
    assert (tmp_path.joinpath("copy", *["d"] * 199) / "file").read_text() == "text"
    with pytest.raises(errors.Hostile, match="nested more than 200 deep"):
        copy(Side(-1, str(tmp_path / "600")), Side(-1, str(tmp_path / "other")), owner=False, follow=False)


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFCHR])
def test_what_is_no_data(tmp_path: Path, kind: int) -> None:
    """Left out below a directory; what was asked for by name is not left out without a word."""
    source = tmp_path / "source"
    source.mkdir()
    os.mknod(source / "odd", 0o600 | kind, os.makedev(1, 3))
    copy(Side(-1, str(source)), Side(-1, str(tmp_path / "copy")), owner=False, follow=False)
    assert list((tmp_path / "copy").iterdir()) == []
    with pytest.raises(errors.UsageError, match="odd is no file"):
        copy(Side(-1, str(source / "odd")), Side(-1, str(tmp_path / "none")), owner=False, follow=False)
    assert not (tmp_path / "none").exists()
