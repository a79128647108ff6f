"""Docker archives and OCI layouts, in and out, and root file systems as tars."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from pyoci.mydocker import archives, errors, images, paths, transfer
from tests.mydocker.layers import add, blobs_of, config_of, digest, directory, member, symlink, tar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BASE = tar(directory("etc"), member("etc/passwd", b"root:x:0:0::/:/bin/sh\n"))
MORE = tar(member("etc/.wh.passwd"), member("etc/new", b"new"))
ONE = "1" * 64


def read(data: bytes) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(data))


@pytest.fixture
def second(places: paths.Paths) -> Iterator[images.Store]:
    """A store beside the first."""
    yield images.Store(paths.Paths(f"{places.root}/../second", f"{places.run}/second").make())


def content(store: images.Store, image: images.Image) -> dict[str, bytes]:
    root = Path(store.mount(image, ONE))
    try:
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    finally:
        store.remove_rootfs(ONE)


def test_round_trip(store: images.Store, second: images.Store) -> None:
    """Saved and loaded: the same ids, digests, names and files, whatever compresses the whole."""
    base = add(store, [BASE], "base:1", Cmd=["sh"])
    more = add(store, [BASE, MORE], "localhost:5000/more:2")
    out = io.BytesIO()
    archives.save(store, [(base, ["base:1"]), (more, ["localhost:5000/more:2", "docker.io/x/y:z"])], out)
    for pack in (bytes, gzip.compress, zstandard.ZstdCompressor().compress, lzma.compress, bz2.compress):
        loaded = archives.load(second, read(pack(out.getvalue())))
        assert [(image.id, image.digest) for image in loaded] == [(base.id, base.digest), (more.id, more.digest)]
    assert second.resolve("x/y:z").id == more.id
    assert content(second, second.resolve("localhost:5000/more:2")) == {"etc/new": b"new"}
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as file:
        names = file.getnames()
        assert len(names) == len(set(names)), "a shared layer is there once"
        found = file.extractfile("manifest.json")
        assert found
        manifest = json.load(found)
    assert manifest[0]["RepoTags"] == ["base:1"]
    assert set(manifest[1]["Layers"]) <= set(names)


def old_archive(layers: list[bytes], name: object = "old:1", link: bool = False) -> bytes:
    """As docker wrote them before version 25: HEX.json, DIR/layer.tar, links to layers that are there already."""
    config = json.dumps(config_of(layers, Cmd=["sh"])).encode()
    entries = [member(f"{digest(config)[7:]}.json", config)]
    names = []
    for number, layer in enumerate(layers):
        names.append(f"d{number}/layer.tar")
        if link and number:
            entries.append(symlink(names[-1], "../d0/layer.tar"))
        else:
            entries.append(member(names[-1], layer))
    manifest = [{"Config": f"{digest(config)[7:]}.json", "RepoTags": [name] if name else None, "Layers": names}]
    return tar(*entries, member("manifest.json", json.dumps(manifest).encode()), member("repositories", b"{}"))


def test_old_docker_archive(store: images.Store) -> None:
    (image,) = archives.load(store, read(old_archive([BASE, MORE])))
    assert image.tags == ("old:1",)
    assert content(store, image) == {"etc/new": b"new"}
    (linked,) = archives.load(store, read(old_archive([BASE, BASE], "linked:1", link=True)))
    assert content(store, linked) == {"etc/passwd": b"root:x:0:0::/:/bin/sh\n"}
    (nameless,) = archives.load(store, read(old_archive([MORE], None)))
    assert nameless.tags == ()


@pytest.mark.parametrize("suffix", ["", "+gzip", "+zstd"])
def test_oci_layout_directory(store: images.Store, tmp_path: Path, suffix: str) -> None:
    """An unpacked layout, with an index in its index, layers in each compression, several frames of zstd."""
    manifest, blobs = blobs_of([BASE], suffix="")
    if suffix:
        half = len(BASE) // 2
        zstd = zstandard.ZstdCompressor()
        packed = gzip.compress(BASE) if suffix == "+gzip" else zstd.compress(BASE[:half]) + zstd.compress(BASE[half:])
        document = json.loads(manifest)
        kind = f"application/vnd.oci.image.layer.v1.tar{suffix}"
        document["layers"] = [{"mediaType": kind, "digest": digest(packed), "size": len(packed)}]
        manifest = json.dumps(document).encode()
        blobs[digest(packed)] = packed
    entry = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest(manifest),
        "size": len(manifest),
    }
    other = {**entry, "digest": "sha256:" + "0" * 64, "platform": {"os": "linux", "architecture": "s390x"}}
    own = {**entry, "platform": {"os": "linux", "architecture": transfer.own_platform().split("/")[1]}}
    inner = json.dumps({"schemaVersion": 2, "manifests": [other, own]}).encode()
    index = {
        "schemaVersion": 2,
        "manifests": [
            {
                "mediaType": "application/vnd.oci.image.index.v1+json",
                "digest": digest(inner),
                "size": len(inner),
                "annotations": {"org.opencontainers.image.ref.name": "layout/x:1"},
            }
        ],
    }
    directory = tmp_path / "blobs/sha256"
    directory.mkdir(parents=True)
    for data in [*blobs.values(), manifest, inner]:
        (directory / digest(data)[7:]).write_bytes(data)
    (tmp_path / "index.json").write_text(json.dumps(index))
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (image,) = archives.load_directory(store, str(tmp_path))
    assert image.tags == ("layout/x:1",)
    assert content(store, image) == {"etc/passwd": b"root:x:0:0::/:/bin/sh\n"}


def oci(index: object, *blobs: bytes, **more: bytes) -> bytes:
    entries = [member(f"blobs/sha256/{digest(data)[7:]}", data) for data in blobs]
    return tar(*entries, member("index.json", json.dumps(index).encode()), *[member(*item) for item in more.items()])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no tar at all" * 100,
        tar(member("x", b"y")),
        tar(member("index.json", b"{")),
        tar(member("index.json", b"[" * 100_000)),
        tar(member("index.json", b'{"manifests": {}}')),
        tar(member("index.json", b'{"manifests": [{"digest": "../../etc/passwd", "size": 1}]}')),
        tar(member("manifest.json", b"[1]")),
        tar(member("manifest.json", b'[{"Config": "../../../etc/passwd", "Layers": []}]')),
        tar(member("manifest.json", b'[{"Config": "a", "Layers": ["b"]}]'), symlink("a", "b"), symlink("b", "a")),
        tar(member("manifest.json", b'[{"Config": "a", "Layers": []}]'), symlink("a", "/etc/passwd")),
        tar(member("blobs/sha256/" + "0" * 64, b"x"), member("index.json", b'{"manifests": []}')),
        tar(member("index.json", bytes(5 << 20))),
        gzip.compress(tar(member("index.json", b"{}")))[:-20],
        zstandard.ZstdCompressor().compress(tar(member("x", os.urandom(5000))))[:-2000],
        lzma.compress(b"x")[:-3],
        old_archive([BASE], "../../etc"),
        old_archive([BASE], 5),
    ],
    ids=range(18),
)
def test_hostile_archives(store: images.Store, data: bytes, tmp_path: Path) -> None:
    with pytest.raises(errors.Error):
        archives.load(store, read(data))
    assert store.images() == []
    assert sorted(os.listdir(Path(store.paths.root).parent)) == ["root"]


def test_nested_indexes_end(store: images.Store) -> None:
    """An index in an index in an index ..."""
    data = b"{}"
    blobs = []
    entry: dict[str, Any] = {}
    for _ in range(8):
        blobs.append(data)
        kind = "application/vnd.oci.image.index.v1+json"
        machine = {"os": "linux", "architecture": transfer.own_platform().split("/")[1]}
        entry = {"mediaType": kind, "digest": digest(data), "size": len(data), "platform": machine}
        data = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    with pytest.raises(errors.Hostile, match="too many indexes"):
        archives.load(store, read(oci({"manifests": [entry]}, *blobs)))


def test_decompression_bomb(places: paths.Paths) -> None:
    """A gigabyte of zeros in a megabyte: the limit counts what comes out."""
    from pyoci.mydocker.tarread import Limits

    store = images.Store(places, Limits(size=10 << 20))
    bomb = gzip.compress(bytes(200 << 20), 9)
    assert len(bomb) < 1 << 20
    with pytest.raises(errors.Hostile, match="larger than"):
        archives.take_rootfs(store, read(bomb), "bomb", {})
    with pytest.raises(errors.Hostile, match="larger than"):
        archives.load(store, read(gzip.compress(tar(member("big", bytes(11 << 20))))))
    assert os.listdir(store.paths.partial) == []


def test_xz(store: images.Store) -> None:
    """Several streams with padding between; one that wants gigabytes of memory; a layer may not be xz."""
    half = len(BASE) // 2
    packed = lzma.compress(BASE[:half]) + bytes(8) + lzma.compress(BASE[half:])
    assert content(store, archives.take_rootfs(store, read(packed), "", {}))
    greedy = lzma.compress(BASE, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29}])
    with pytest.raises(errors.Hostile, match="damaged: Memory usage limit"):
        archives.take_rootfs(store, read(greedy), "", {})
    with pytest.raises(errors.Hostile, match="compressed as no layer may be"):
        archives.load(store, read(old_archive([lzma.compress(BASE)])))


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, zstandard.ZstdCompressor().compress, lzma.compress, bz2.compress]
)
def test_import(store: images.Store, pack: Callable[[bytes], bytes]) -> None:
    image = archives.take_rootfs(store, read(pack(BASE)), "mine:1", {"Cmd": ["x"]}, "from a test")
    assert (image.tags, image.process.cmd, image.history[0]["comment"]) == (("mine:1",), ["x"], "from a test")
    assert content(store, image) == {"etc/passwd": b"root:x:0:0::/:/bin/sh\n"}


@pytest.mark.parametrize("data", [b"no tar" * 1000, BASE[:700]])
def test_import_of_no_tar(store: images.Store, data: bytes) -> None:
    with pytest.raises(errors.Hostile):
        archives.take_rootfs(store, read(data), "", {})
    assert store.images() == []
