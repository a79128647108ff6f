"""Names of users in a container: SECURITY 1, 14: hostile paths, hostile files, numbers are ids."""

from __future__ import annotations

import errno
import os
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pyoci import container_user, errors
from pyoci.host import rootfile
from pyoci.host.process import Process

PASSWD = "root:x:0:0:root:/:/bin/sh\nwalnut:x:1000:1001::/:/bin/sh\nbare:x:5:6\nwalnut:x:1:1::/:\n7:x:8:9::/:\n"
GROUP = "root:x:0:\naudio:x:29:walnut,other\nvideo:x:44:other,walnut\nnone:x:50\naudio:x:1:walnut\n"


class Files(container_user.Lookup):
    """Looks up in given texts."""

    def __init__(self, passwd: str = PASSWD, group: str = GROUP) -> None:
        super().__init__(Process(0, 0))
        self.texts = {"/etc/passwd": passwd, "/etc/group": group}

    def _read(self, path: str) -> str:
        return self.texts[path]


BASE: dict[str, Any] = {"uid": 3, "gid": 4, "umask": 7, "additionalGids": [12]}


@pytest.mark.parametrize(
    ("who", "groups", "changed"),
    [
        ("", [], {}),
        ("walnut", [], {"uid": 1000, "gid": 1001, "additionalGids": [29, 44, 1]}),
        ("walnut:video", [], {"uid": 1000, "gid": 44, "additionalGids": []}),
        ("walnut:77", [], {"uid": 1000, "gid": 77, "additionalGids": []}),
        ("bare", [], {"uid": 5, "gid": 6, "additionalGids": []}),
        ("8", [], {"uid": 8}),
        ("7", [], {"uid": 7}),  # the number, though a user is called so
        ("8:9", [], {"uid": 8, "gid": 9}),
        ("8:none", [], {"uid": 8, "gid": 50}),
        ("", ["audio", "12", "99", "audio"], {"additionalGids": [12, 29, 99]}),
        ("walnut", ["none"], {"uid": 1000, "gid": 1001, "additionalGids": [29, 44, 1, 50]}),
        ("4294967294", [], {"uid": 4294967294}),
    ],
)
def test_users(who: str, groups: list[str], changed: dict[str, Any]) -> None:
    assert Files().user(BASE, who, groups) == {**BASE, **changed}


@pytest.mark.parametrize("who", ["nobody", "walnut:", ":5", ":", "walnut:x", "8:x", "1:2:3", "-1", "4294967295", "٣"])
def test_no_users(who: str) -> None:
    with pytest.raises(errors.UsageError):
        Files().user(BASE, who, [])


@pytest.mark.parametrize("group", ["nogroup", "", "-1", "4294967295", "99999999999"])
def test_no_groups(group: str) -> None:
    with pytest.raises(errors.UsageError):
        Files().user(BASE, "", [group])


@pytest.mark.parametrize("uid", ["", "-1", "x", " 0", "+0", "4294967295", "99999999999", "0x0", "٣", "0\x1b[31m"])
def test_hostile_ids(uid: str) -> None:
    """Never root by way of a number that is none."""
    with pytest.raises(errors.SetupError, match="invalid id"):
        Files(passwd=f"mallory:x:{uid}:0::/:\n").user(BASE, "mallory", [])


NAMES = st.sampled_from(["walnut", "a.b", "7", "\udcff"])
GOOD = st.sampled_from(["0", "7", "007", "1000", "4294967294"])
IDS = GOOD | st.sampled_from(["4294967295", "-1", "", " 0", "0 ", "+0", "x", "٣"])
MEMBERS = st.lists(NAMES, max_size=3).map(",".join)
USER = st.tuples(NAMES, st.just("x"), GOOD, GOOD, st.just(":/:/bin/sh")).map(":".join)
GROUP_LINE = st.tuples(NAMES, st.just("x"), GOOD, MEMBERS).map(":".join)
BROKEN = st.one_of(
    st.tuples(NAMES, st.just("x"), IDS, IDS | MEMBERS).map(":".join),
    st.lists(NAMES | IDS, max_size=8).map(":".join),
    st.text(st.characters(codec="utf-8"), max_size=8),
)
WHO = st.one_of(NAMES, IDS.filter(bool), st.tuples(NAMES | IDS, NAMES | IDS).map(":".join))


def files(line: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Of lines as they should be, and one that may be anything before or among them."""
    return st.tuples(st.lists(line, max_size=3), BROKEN | line, st.lists(line, min_size=1, max_size=5)).map(
        lambda parts: "\n".join([*parts[0], parts[1], *parts[2]])
    )


def by_the_book(passwd: str, group: str, who: str) -> dict[str, Any] | None:
    """What passwd(5) and group(5) say of USER[:GROUP]; None where it must be refused."""
    word = "([^:\n]+)"
    name, colon, group_name = who.partition(":")

    def number(text: str | None) -> int:
        if text is None or not re.fullmatch("[0-9]{1,10}", text) or int(text) > 2**32 - 2:
            raise ValueError
        return int(text)

    def gid(name: str) -> int:
        if re.fullmatch("[0-9]+", name):
            return number(name)
        found = re.search(f"(?m)^{re.escape(name)}:[^:\n]*:([^:\n]*)(?=:|$)", group)
        return number(found and found[1])

    try:
        result = dict(BASE)
        if not name or (colon and not group_name):
            raise ValueError
        if re.fullmatch("[0-9]+", name):
            result["uid"] = number(name)
        else:
            found = re.search(f"(?m)^{re.escape(name)}:[^:\n]*:([^:\n]*):([^:\n]*)(?=:|$)", passwd)
            result["uid"], result["gid"] = number(found and found[1]), number(found and found[2])
            lists = re.findall(f"(?m)^{word}:[^:\n]*:([^:\n]*):([^:\n]*)(?=:|$)", group)
            mine = [number(id) for _, id, members in lists if name in members.split(",")] if not colon else []
            result["additionalGids"] = list(dict.fromkeys(mine))
        if colon:
            result["gid"] = gid(group_name)
    except ValueError:
        return None
    return result


def test_any_file_is_read() -> None:
    """The ids that the files say, or an error of ours."""
    answers: list[bool] = []

    @settings(max_examples=400)
    @given(files(USER), files(GROUP_LINE), WHO)
    @example("a:x:5\n", "", "a")
    @example("", "g:x\n", "5:g")
    def check(passwd: str, group: str, who: str) -> None:
        wanted = by_the_book(passwd, group, who)
        answers.append(wanted is not None and not who[0].isdigit())
        try:
            user = Files(passwd, group).user(BASE, who, [])
        except errors.Error:
            assert wanted is None
        else:
            assert user == wanted

    check()
    assert sum(answers) > 20, "hardly any name was found: the test proves nothing"


@pytest.mark.parametrize("text", [":\n", "ab\n", "a:x:1:b,b\n", "a,"])
def test_memory_of_a_large_file(text: str) -> None:
    """Some times the file, however many lines and fields there are in it."""
    large = text * ((1 << 20) // len(text))
    tracemalloc.start()
    try:
        with pytest.raises(errors.UsageError):
            Files(large, large).user(BASE, "nobody", [])
        assert tracemalloc.get_traced_memory()[1] < 40 * len(large)
    finally:
        tracemalloc.stop()


def test_a_process_that_has_ended() -> None:
    with pytest.raises(errors.Error):
        container_user.resolve(Process(0, 0), BASE, "root", [])


# -- files under a root -----------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").write_text("secret")
    inside = tmp_path / "root"
    (inside / "etc").mkdir(parents=True)
    (inside / "etc" / "file").write_text("inside")
    (inside / "outside").write_text("inside too")
    return inside


def read(root: Path, path: str, limit: int = 100) -> str:
    return rootfile.read(str(root), path, limit).decode()


def test_plain(root: Path) -> None:
    assert read(root, "/etc/file") == read(root, "etc//./file") == "inside"
    assert read(root, "/../../etc/../etc/file") == "inside"


@pytest.mark.parametrize(
    ("target", "content"),
    [
        ("file", "inside"),
        ("/etc/file", "inside"),
        ("../etc/file", "inside"),
        ("../../../../outside", "inside too"),
        ("/../outside", "inside too"),
        ("link2", "inside"),
    ],
)
def test_links_stay_inside(root: Path, target: str, content: str) -> None:
    os.symlink(target, root / "etc" / "link")
    os.symlink("/etc/../etc/file", root / "etc" / "link2")
    assert read(root, "/etc/link") == content


def test_a_directory_that_is_a_link(root: Path, tmp_path: Path) -> None:
    os.symlink(str(tmp_path), root / "host")
    os.symlink("/etc", root / "conf")
    assert read(root, "/conf/file") == "inside"
    with pytest.raises(FileNotFoundError):
        read(root, "/host/outside")


def test_magic_links_are_texts(root: Path) -> None:
    os.symlink("/proc/self/cwd/outside", root / "etc" / "link")
    with pytest.raises(FileNotFoundError):
        read(root, "/etc/link")


@pytest.mark.parametrize(
    ("make", "number"),
    [
        (lambda path: os.symlink("link", path), errno.ELOOP),
        (os.mkdir, errno.EISDIR),
        (os.mkfifo, errno.EINVAL),
        (lambda path: path.write_bytes(b"x" * 101), errno.EFBIG),
        (lambda path: None, errno.ENOENT),
    ],
    ids=["loop", "directory", "fifo", "large", "missing"],
)
def test_what_is_not_read(root: Path, make: Any, number: int) -> None:
    make(root / "etc" / "link")
    with pytest.raises(OSError) as info:
        read(root, "/etc/link")
    assert info.value.errno == number


@pytest.mark.skipif(os.geteuid() != 0, reason="mknod needs root")
def test_a_device_is_not_opened(root: Path) -> None:
    os.mknod(root / "etc" / "zero", 0o20666, os.makedev(1, 5))
    with pytest.raises(OSError) as info:
        read(root, "/etc/zero")
    assert info.value.errno == errno.EINVAL


def test_no_descriptor_stays_open(root: Path) -> None:
    before = os.listdir("/proc/self/fd")
    os.symlink("loop", root / "etc" / "loop")
    for path in ("/etc/file", "/etc/loop", "/etc/none", "/etc/file/x", "/.."):
        try:
            read(root, path)
        except OSError:
            pass
    assert len(os.listdir("/proc/self/fd")) == len(before)
