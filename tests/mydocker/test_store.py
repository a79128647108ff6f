"""The store: images in and out, root file systems, and what a broken record or a killed command may not do."""

from __future__ import annotations

import concurrent.futures
import io
import json
import os
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyoci.mydocker import content, errors, images, records, tree, volumes
from pyoci.mydocker.reference import InvalidReference
from tests.integration import harness
from tests.mydocker.layers import add, blobs_of, digest, directory, hard_link, member, symlink, tar

if TYPE_CHECKING:
    from pyoci.mydocker.paths import Paths

BASE = tar(
    directory("", mode=0o755),
    directory("etc"),
    member("etc/passwd", b"root:x:0:0::/:/bin/sh\n"),
    member("etc/gone", b"x"),
    directory("var"),
    member("var/a", b"a"),
    member("var/b", b"b"),
)
MORE = tar(
    member("etc/.wh.gone"),
    member("etc/new", b"new"),
    directory("var"),
    member("var/.wh..wh..opq"),
    member("var/c", b"c"),
)
ONE, TWO = "1" * 64, "2" * 64


def test_mount(store: images.Store) -> None:
    image = add(store, [BASE, MORE], "base:1", Env=["A=b"], Cmd=["sh"])
    root = Path(store.mount(image, ONE))
    try:
        assert sorted(os.listdir(root)) == ["etc", "var"]
        assert sorted(os.listdir(root / "etc")) == ["new", "passwd"]
        assert os.listdir(root / "var") == ["c"], "the opaque directory hides what is below"
        (root / "etc/passwd").write_text("changed")
        assert store.mount(image, ONE) == str(root), "again: the same"
        store.unmount(ONE)
        assert os.listdir(root) == []
        store.unmount(ONE)
        assert (Path(store.mount_again(ONE)) / "etc/passwd").read_text() == "changed"
        second = Path(store.mount(image, TWO))
        assert (second / "etc/passwd").read_text().startswith("root"), "a container sees its own changes only"
    finally:
        store.remove_rootfs(ONE)
        store.remove_rootfs(TWO)
    store.remove_rootfs(ONE)
    assert os.listdir(store.paths.overlay) == []


def test_mount_of_many_layers(store: images.Store) -> None:
    """As many as mount(2) takes in one page; the same layer twice; none at all."""
    many = [tar(member(f"f{number}", b"x")) for number in range(120)]
    image = add(store, [*many[:119], many[0]])
    root = store.mount(image, ONE)
    try:
        assert len(os.listdir(root)) == 119
    finally:
        store.remove_rootfs(ONE)
    with pytest.raises(errors.Hostile, match="121 layers"):
        add(store, [*many, many[0]])
    empty = add(store, [])
    try:
        assert os.listdir(store.mount(empty, TWO)) == []
    finally:
        store.remove_rootfs(TWO)


def test_root_keeps_its_mode(store: images.Store) -> None:
    image = add(store, [tar(directory("", mode=0o711, uid=5, gid=6), member("a"))])
    try:
        found = os.stat(store.mount(image, ONE))
        assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o711, 5, 6)
    finally:
        store.remove_rootfs(ONE)


@pytest.mark.parametrize("container", ["", "..", "../../etc", "a" * 63, "A" * 64, "g" * 64, f"{'a' * 64}/.."])
def test_ids_are_ids(store: images.Store, container: str) -> None:
    with pytest.raises(errors.UsageError):
        store.mount(add(store, [BASE]), container)
    with pytest.raises(errors.UsageError):
        store.remove_rootfs(container)


def test_diff(store: images.Store) -> None:
    image = add(store, [BASE])
    root = Path(store.mount(image, ONE))
    try:
        assert store.diff(ONE) == []
        (root / "etc/gone").unlink()
        (root / "etc/new").write_text("x")
        (root / "etc/passwd").chmod(0o600)
        (root / "made").mkdir()
        (root / "made/in").write_text("x")
        for name in "ab":
            (root / "var" / name).unlink()
        (root / "var").rmdir()
        (root / "var").mkdir()
        (root / "var/b").write_text("again")
        assert store.diff(ONE) == [
            ("C", "/etc"), ("D", "/etc/gone"), ("A", "/etc/new"), ("C", "/etc/passwd"), ("A", "/made"),
            ("A", "/made/in"), ("C", "/var"), ("D", "/var/a"), ("C", "/var/b"),
        ]  # fmt: skip
        assert store.rootfs_size(ONE) > 0
    finally:
        store.remove_rootfs(ONE)


def test_commit(store: images.Store) -> None:
    """The upper layer as an image: what is removed stays removed, links stay links, attributes stay."""
    image = add(store, [BASE], "base:1", Env=["A=b"], Cmd=["sh"])
    root = Path(store.mount(image, ONE))
    try:
        (root / "etc/gone").unlink()
        (root / "hard").write_bytes(b"h" * 100_000)
        os.link(root / "hard", root / "hard2")
        os.symlink("/etc/passwd", root / "soft")
        os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.chown(root / "hard", 1000, 1001)
        (root / "hard").chmod(0o4755)
        os.setxattr(root / "hard", "user.note", b"\xff\x00\n")
        (root / "näme\udcff\nx").write_text("odd")
        for name in "ab":
            (root / "var" / name).unlink()
        (root / "var").rmdir()
        (root / "var").mkdir()
        harness.mount("none", root / "var", "tmpfs")
        (root / "var/not part of it").write_text("x")
        harness.umount(root / "var")
        made = store.commit(ONE, {"Cmd": ["new"], "Env": ["A=b"]}, ref="mine", author="me", message="why")
    finally:
        store.remove_rootfs(ONE)
    assert made.tags == ("mine:latest",)
    assert made.process.cmd == ["new"]
    assert made.layers[:1] == image.layers
    assert (made.history[-1]["comment"], made.author) == ("why", "me")
    root = Path(store.mount(made, TWO))
    try:
        assert sorted(os.listdir(root / "etc")) == ["passwd"]
        assert os.listdir(root / "var") == []
        hard = (root / "hard").stat()
        assert (hard.st_nlink, hard.st_uid, hard.st_gid, stat.S_IMODE(hard.st_mode)) == (2, 1000, 1001, 0o4755)
        assert (root / "hard2").samefile(root / "hard")
        assert os.getxattr(root / "hard", "user.note") == b"\xff\x00\n"
        assert os.readlink(root / "soft") == "/etc/passwd"
        assert os.stat(root / "null").st_rdev == os.makedev(1, 3)
        assert (root / "näme\udcff\nx").read_text() == "odd"
    finally:
        store.remove_rootfs(TWO)


def test_commit_when_the_image_is_gone(store: images.Store) -> None:
    """A container keeps what it is made of, whatever happens to the name."""
    image = add(store, [BASE], "base:1")
    store.mount(image, ONE)
    try:
        with pytest.raises(errors.Conflict, match="is used by the container box"):
            store.remove("base:1", in_use={image.id: ["box"]})
        store.remove("base:1", force=True, in_use={image.id: ["box"]})
        store.sweep()
        assert store.commit(ONE, {}, ref="saved").layers[0] == image.layers[0]
    finally:
        store.remove_rootfs(ONE)


def test_export(store: images.Store) -> None:
    image = add(store, [BASE, MORE])
    out = io.BytesIO()
    try:
        store.mount(image, ONE)
        store.unmount(ONE)
        store.export(ONE, out)
        assert not store.overlays.mounted(ONE)
    finally:
        store.remove_rootfs(ONE)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as found:
        assert sorted(found.getnames()) == ["etc", "etc/new", "etc/passwd", "var", "var/c"]


def test_deep_trees_go(store: images.Store) -> None:
    """A container can nest directories deeper than any path or recursion reaches; rm removes them all the same."""
    image = add(store, [BASE])
    root = store.mount(image, ONE)
    fd = os.open(root, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d" * 10, dir_fd=fd)
        below = os.open("d" * 10, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    with pytest.raises(errors.StorageError, match="cannot read"):
        store.diff(ONE)
    store.remove_rootfs(ONE)
    assert os.listdir(store.paths.overlay) == []


def test_nothing_is_removed_across_a_mount(store: images.Store, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    directory = Path(store.paths.overlay) / "x"
    (directory / "point").mkdir(parents=True)
    harness.mount(str(tmp_path), directory / "point", flags=harness.MS_BIND)
    try:
        with pytest.raises(errors.StorageError, match="is mounted"):
            tree.remove(str(directory))
        assert (tmp_path / "precious").exists()
    finally:
        harness.umount(directory / "point")
    os.rmdir(directory / "point")


# -- names and records ------------------------------------------------------------------------


def test_resolve(store: images.Store) -> None:
    image = add(store, [BASE], "base:1")
    add(store, [MORE], "other")
    for text in ("base:1", "docker.io/library/base:1", image.id, image.id[7:], image.id[7:19]):
        assert store.resolve(text).id == image.id
    for text in ("base", "base:2", "../../etc", "", "sha256:", "ffff" * 16):
        with pytest.raises(errors.NotFound):
            store.resolve(text)


def test_ambiguous_prefix(store: images.Store) -> None:
    for number in range(17):  # one of sixteen digits comes twice
        add(store, [tar(member("f", str(number).encode()))])
    names = [name[0] for name in os.listdir(store.paths.images)]
    twice = next(digit for digit in names if names.count(digit) > 1)
    with pytest.raises(errors.Conflict, match="write more of it"):
        store.resolve(twice)


def test_tags_and_rmi(store: images.Store) -> None:
    image = add(store, [BASE], "base:1")
    store.tag("base:1", "localhost:5000/me/app")
    store.tag(image.id, "base:2")
    assert store.resolve("base:1").tags == ("base:1", "base:2", "localhost:5000/me/app:latest")
    for name in ("../x", f"a@{image.digest}", "A"):
        with pytest.raises(InvalidReference):
            store.tag("base:1", name)
    with pytest.raises(errors.Conflict, match="several names"):
        store.remove(image.id)
    assert store.remove("base:1") == ["Untagged: base:1"]
    assert store.remove("base:2") == ["Untagged: base:2"]
    assert store.remove(image.id) == ["Untagged: localhost:5000/me/app:latest", f"Deleted: {image.id}"]
    assert store.images() == []
    assert os.listdir(store.paths.blobs) == os.listdir(store.paths.layers) == []
    with pytest.raises(errors.NotFound):
        store.remove(image.id)


def test_shared_layers(store: images.Store) -> None:
    """Two images with one base: it is there once, and stays as long as one of them does."""
    add(store, [BASE], "base")
    both = add(store, [BASE, MORE], "more")
    assert len(os.listdir(store.paths.layers)) == 2
    store.remove("base")
    try:
        assert os.listdir(store.mount(both, ONE))
    finally:
        store.remove_rootfs(ONE)
    store.remove("more")
    assert os.listdir(store.paths.layers) == []


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"id": 1}', b"\xff", b'{"a":1,"a":2}', b"[" * 100_000])
def test_a_corrupt_record_hides_nothing(store: images.Store, damage: bytes) -> None:
    good = add(store, [BASE], "good")
    bad = add(store, [MORE], "bad")
    Path(store.paths.images, f"{bad.id[7:]}.json").write_bytes(damage)
    assert [image.id for image in store.images()] == [good.id]
    assert store.problems
    assert store.resolve("good").id == good.id
    with pytest.raises(errors.Error):
        store.resolve("bad")
    fresh = images.Store(store.paths)
    fresh.sweep()
    assert fresh.layers.has(bad.layers[0]), "nobody knows what the damaged record needs: nothing is swept"
    assert fresh.problems


def test_a_damaged_blob_is_noticed(store: images.Store) -> None:
    image = add(store, [BASE], "base", Cmd=["true"])
    path = Path(store.blobs.path(image.id))
    path.write_bytes(path.read_bytes().replace(b"true", b"evil"))
    with pytest.raises(errors.Hostile, match="damaged on disk"):
        store.resolve("base")


def test_records_are_replaced_whole(places: Paths) -> None:
    path = f"{places.refs}/x.json"
    records.write(path, {"a": 1})
    with pytest.raises(TypeError):
        records.write(path, {"a": object()})
    assert records.read(path) == {"a": 1}


@pytest.mark.parametrize(
    "change",
    [
        {"rootfs": None},
        {"rootfs": {"type": "layers", "diff_ids": []}},
        {"rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]}},
        {"rootfs": {"type": "layers", "diff_ids": ["../../etc"]}},
        {"config": {"Env": "A=b"}},
        {"config": {"Env": ["A=b\0c"]}},
        {"config": {"Cmd": [1]}},
        {"config": {"WorkingDir": ["x"]}},
        {"config": {"Labels": {"a": 1}}},
        {"config": []},
        {"created": 5},
    ],
)
def test_hostile_configs(store: images.Store, change: dict[str, object]) -> None:
    manifest, blobs = blobs_of([BASE])
    document = json.loads(manifest)
    config = {**json.loads(blobs[document["config"]["digest"]]), **change}
    with store.using():
        for data in blobs.values():
            store.blobs.add(data)
        with pytest.raises(errors.Error):
            store.add(store.write_image(config, document["layers"]), [])
    assert store.images() == []
    assert [name for name in os.listdir(store.paths.layers) if name.startswith(".tmp")] == []


@pytest.mark.parametrize(
    "change",
    [
        {"schemaVersion": 1},
        {"schemaVersion": "2"},
        {"config": None},
        {"config": {"digest": "../../etc/passwd", "size": 1}},
        {"config": {"digest": "md5:" + "0" * 32, "size": 1}},
        {"layers": {}},
        {"layers": [{"mediaType": "text/plain", "digest": "sha256:" + "0" * 64, "size": 1}]},
        {
            "layers": [
                {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": "sha256:" + "0" * 64, "size": -1}
            ]
        },
        {
            "layers": [
                {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": "sha256:" + "0" * 64, "size": True}
            ]
        },
        {
            "layers": [
                {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": "sha256:" + "0" * 64, "size": 1}
            ]
        },
    ],
)
def test_hostile_manifests(store: images.Store, change: dict[str, object]) -> None:
    manifest, blobs = blobs_of([BASE])
    with store.using():
        for data in blobs.values():
            store.blobs.add(data)
        digest = store.blobs.add(json.dumps({**json.loads(manifest), **change}).encode())
        with pytest.raises(errors.Error):
            store.add(digest, [])
    assert store.images() == []


def test_env_without_a_value(store: images.Store) -> None:
    """It is left out, and not looked up on the host."""
    os.environ["MYDOCKER_TEST_SECRET"] = "secret"
    image = add(store, [BASE], Env=["MYDOCKER_TEST_SECRET", "=x", "A=", "B=c=d"])
    assert image.process.env == ["A=", "B=c=d"]


def test_concurrent_adding_and_sweeping(store: images.Store) -> None:
    """Commands side by side: every image is whole at the end, and nothing is unpacked twice or swept away."""

    def work(number: int) -> None:
        own = images.Store(store.paths)
        add(own, [BASE, tar(member("own", str(number).encode()))], f"image:{number}")
        own.sweep(wait=False)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(16)))
    assert len(store.images()) == 16
    assert store.problems == []
    assert len(os.listdir(store.paths.layers)) == 17
    store.sweep()
    assert all(store.layers.has(diff_id) for image in store.images() for diff_id in image.layers)


def test_two_bring_one_blob(store: images.Store) -> None:
    """The second begins when the first has just renamed its file: what is there now is not for the first to remove."""
    found = digest(b"data")
    with store.blobs.receive(found) as first:
        first.write(b"data")
        first.finish()
        second = store.blobs.receive(found)
        second.__enter__()
    assert os.path.exists(second.path), "the first one's end"
    assert second.done
    second.__exit__()
    assert os.listdir(store.paths.partial) == []


def test_killed_while_unpacking(store: images.Store) -> None:
    """What a killed command has left is no layer, and the next sweep takes it away."""
    left = Path(store.paths.layers, ".tmp-killed")
    (left / "diff/etc").mkdir(parents=True)
    half = Path(store.layers.directory, store.layers.name("sha256:" + "a" * 64))
    (half / "diff").mkdir(parents=True)
    assert not store.layers.has("sha256:" + "a" * 64)
    add(store, [BASE])
    store.sweep()
    assert not left.exists()
    assert not half.exists()
    assert len(store.images()) == 1


def test_incoming_blobs(store: images.Store) -> None:
    """What has arrived stays for the next try; what is wrong does not get a name."""
    digest = content.digest_of(b"hello world")
    with pytest.raises(RuntimeError), store.blobs.receive(digest) as incoming:
        incoming.write(b"hello ")
        raise RuntimeError("the connection broke off")
    assert not store.blobs.has(digest)
    with store.blobs.receive(digest) as incoming:
        assert incoming.size == 6
        incoming.write(b"world")
        incoming.finish()
    assert store.blobs.has(digest)
    wrong = content.digest_of(b"another")
    with pytest.raises(errors.Hostile, match="has the digest"), store.blobs.receive(wrong) as incoming:
        incoming.write(b"hello")
        incoming.finish()
    assert not store.blobs.has(wrong)
    assert os.listdir(store.paths.partial) == []


def test_owner_of_the_run_directory(tmp_path: Path) -> None:
    """Below /tmp anybody can have made it."""
    from pyoci.mydocker.paths import Paths

    (tmp_path / "run").mkdir(mode=0o777)
    (tmp_path / "run").chmod(0o777)
    with pytest.raises(errors.StorageError, match="only the caller can write"):
        Paths(str(tmp_path / "root"), str(tmp_path / "run")).make()


def test_busybox(store: images.Store) -> None:
    """A newcomer without a registry: an image of this machine's busybox, named as what it is."""
    image = store.ensure("busybox")
    assert image.tags[0].startswith("localhost/busybox-static:")
    assert store.ensure("busybox", "never").id == image.id == store.resolve("busybox").id
    root = store.mount(image, ONE)
    try:
        shown = subprocess.run(
            ["/usr/sbin/chroot", root, "/bin/sh", "-c", "echo $((6*7)); id -u"], capture_output=True, text=True, env={}
        )
        assert shown.stdout == "42\n0\n"
    finally:
        store.remove_rootfs(ONE)
    own = add(store, [BASE], "busybox")
    assert store.ensure("busybox").id == own.id, "a real image of that name goes before"
    with pytest.raises(errors.NotFound):
        store.ensure("busybox:1.36", "never")


def test_a_volume_begins_with_the_image(store: images.Store, tmp_path: Path) -> None:
    """Owners, modes and links too; once; and a symlink of the image leads to nothing of the host."""
    files = tar(
        directory("data", uid=5, gid=6, mode=0o2770),
        member("data/file", b"x" * 300_000, uid=7),
        hard_link("data/hard", "data/file"),
        symlink("data/soft", "/etc"),
        symlink("out", str(tmp_path)),
        member("plain", b"x"),
    )
    (tmp_path / "precious").write_text("x")
    root = store.mount(add(store, [files]), ONE)
    try:
        own = volumes.Volumes(store.paths)
        data = Path(own.ensure("data"))
        own.fill("data", root, "/data")
        found = data.stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (5, 6, 0o2770)
        assert ((data / "file").stat().st_uid, (data / "file").stat().st_nlink) == (7, 2)
        assert os.readlink(data / "soft") == "/etc"
        (data / "file").unlink()
        own.fill("data", root, "/data")
        assert not (data / "file").exists(), "a volume with something in it stays as it is"
        for inside in ("/out", "/plain", "/missing", "/../../../../tmp"):
            own.ensure("other")
            own.fill("other", root, inside)
            assert os.listdir(own.inspect("other").path) == []
    finally:
        store.remove_rootfs(ONE)


def test_hard_link_to_a_lower_layer(store: images.Store) -> None:
    """The file is copied into the layer, as overlayfs does; what an image hides from it is hidden."""
    base = tar(
        directory("d", mode=0o710, uid=3),
        member("d/file", b"base", uid=7, mode=0o4711, mtime=1000, pax_headers={"SCHILY.xattr.user.x": "y"}),
        member("d/gone", b"x"),
        directory("o"),
        member("o/hidden", b"x"),
        symlink("s", "d"),
    )
    middle = tar(directory("d", mode=0o710, uid=3), member("d/.wh.gone"), directory("o"), member("o/.wh..wh..opq"))
    image = add(store, [base, middle, tar(hard_link("new", "d/file"), hard_link("d/more", "d/file"))])
    root = Path(store.mount(image, ONE))
    try:
        for name in ("new", "d/file", "d/more"):
            found = (root / name).stat()
            assert (root / name).read_bytes() == b"base"
            assert (found.st_uid, stat.S_IMODE(found.st_mode), found.st_mtime) == (7, 0o4711, 1000)
            assert found.st_nlink == 3
            assert os.getxattr(root / name, "user.x") == b"y"
        above = (root / "d").stat()
        assert (above.st_uid, stat.S_IMODE(above.st_mode)) == (3, 0o710)
    finally:
        store.remove_rootfs(ONE)
    for target in ("d/gone", "o/hidden", "s/file", "d", "no", "d/file/x"):
        with pytest.raises(errors.Hostile, match="no file of this layer or of one below"):
            add(store, [base, middle, tar(hard_link("link", target))])


def test_a_layer_with_files_of_others_is_good_for_those_only(store: images.Store) -> None:
    """Else an image could put its own file into the layer of another one that is pulled after it."""
    layer = tar(hard_link("program", "tool"))
    add(store, [tar(member("tool", b"good")), layer], "one:1")
    with pytest.raises(errors.Conflict, match="files of other layers"):
        add(store, [tar(member("tool", b"evil")), layer])
    assert add(store, [tar(member("tool", b"good")), layer, tar(member("x"))])
