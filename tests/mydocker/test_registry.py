"""Pull and push: with Debian's docker-registry on loopback, and with servers that misbehave."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import os
import random
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from pyoci.mydocker import auth, errors, images, paths, registry, transfer
from pyoci.mydocker.reference import Reference
from tests.mydocker.layers import add, blobs_of, digest, directory, member, tar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BASE = tar(directory("etc"), member("etc/passwd", b"root:x:0:0::/:/bin/sh\n"))
BIG = tar(*[member(f"big{number}", os.urandom(700_000)) for number in range(3)])
USER, PASSWORD = "walnut", "a:pass word"
ONE = "1" * 64


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The caller's configuration directory."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config/mydocker"


@pytest.fixture
def second(places: paths.Paths) -> images.Store:
    """A store beside the first."""
    return images.Store(paths.Paths(f"{places.root}/../second", f"{places.run}/second").make())


def free_port() -> int:
    """Below those that the kernel gives to whoever connects, one of which it may give away before it is ours again."""
    while True:
        with (
            contextlib.suppress(OSError),
            socket.create_server(("127.0.0.1", random.randrange(10_000, 30_000))) as found,
        ):
            port: int = found.getsockname()[1]
            return port


class Server:
    """Debian's docker-registry."""

    def __init__(self, top: Path, *, tls: bool, login: bool) -> None:
        program = shutil.which("docker-registry")
        if not program:
            pytest.skip("docker-registry is not installed")
        self.port = free_port()
        self.host = f"localhost:{self.port}"
        self.authority = top / "ca.crt"
        lines = ["version: 0.1", f"storage: {{filesystem: {{rootdirectory: {top}/data}}, delete: {{enabled: true}}}}"]
        lines += ["log: {level: error, accesslog: {disabled: true}}", "http:", f"  addr: 127.0.0.1:{self.port}"]
        if tls:
            certificate(top)
            lines += [f"  tls: {{certificate: {top}/ca.crt, key: {top}/ca.key}}"]
        if login:
            made = subprocess.run(["htpasswd", "-Bbn", USER, PASSWORD], capture_output=True, text=True, check=True)
            (top / "htpasswd").write_text(made.stdout)
            lines += [f"auth: {{htpasswd: {{realm: test, path: {top}/htpasswd}}}}"]
        (top / "config.yml").write_text("\n".join(lines))
        self.log = (top / "log").open("wb")
        self.process = subprocess.Popen([program, "serve", str(top / "config.yml")], stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                break
            assert self.process.poll() is None, (top / "log").read_text()
            assert time.monotonic() < deadline, "the registry does not answer"
            time.sleep(0.05)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()


def certificate(top: Path) -> None:
    """Its own authority."""
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(
        [*command, "-keyout", str(top / "ca.key"), "-out", str(top / "ca.crt")], capture_output=True, check=True
    )


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*, tls: bool = False, login: bool = False) -> Server:
        top = tmp_path / f"registry{len(servers)}"
        top.mkdir()
        servers.append(Server(top, tls=tls, login=login))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


class Steps:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, int, int]] = []

    def update(self, digest: str, what: str, done: int = 0, total: int = 0) -> None:
        self.seen.append((digest, what, done, total))

    def of(self, digest: str) -> list[str]:
        return list(dict.fromkeys(what for found, what, _, _ in self.seen if found == digest))


def trust(server: Server, settings: Path) -> None:
    (settings / "certs.d" / server.host).mkdir(parents=True)
    shutil.copy(server.authority, settings / "certs.d" / server.host / "ca.crt")


@pytest.mark.parametrize("login", [False, True])
@pytest.mark.parametrize("tls", [False, True])
def test_push_and_pull(
    store: images.Store, second: images.Store, serve: Callable[..., Server], settings: Path, tls: bool, login: bool
) -> None:
    """There and back: the same digests, shared layers once, a login where one is wanted."""
    server = serve(tls=tls, login=login)
    if tls:
        with pytest.raises(errors.RegistryError, match="certs.d"):
            store.pull(f"{server.host}/a/b")
        trust(server, settings)
    if login:
        with pytest.raises(registry.Denied, match="mydocker login"):
            store.pull(f"{server.host}/a/b")
        auth.Settings().keep(server.host, USER, "wrong")
        with pytest.raises(registry.Denied):
            store.pull(f"{server.host}/a/b")
        auth.Settings().keep(server.host, USER, PASSWORD)
        assert (settings / "auth.json").stat().st_mode & 0o077 == 0
    name = f"{server.host}/a/b:1"
    image = add(store, [BASE, BIG], name, Cmd=["sh"])
    steps = Steps()
    assert transfer.push(store, image, Reference.parse(name), steps) == image.digest
    assert steps.of(image.blobs[1].digest) == ["Pushing", "Pushed"]
    steps = Steps()
    transfer.push(store, image, Reference.parse(name), steps)
    assert steps.of(image.blobs[1].digest) == ["Layer already exists"]

    steps = Steps()
    pulled = second.pull(name, progress=steps)
    assert (pulled.id, pulled.digest, pulled.tags) == (image.id, image.digest, (name,))
    assert pulled.digests == (f"{server.host}/a/b@{image.digest}",)
    assert steps.of(image.blobs[1].digest)[:2] == ["Pulling fs layer", "Downloading"]
    assert steps.of(image.blobs[1].digest)[-1] == "Pull complete"
    assert second.resolve(f"{server.host}/a/b@{image.digest}").id == image.id
    more = add(store, [BASE, tar(member("x", b"y"))], f"{server.host}/a/b:2")
    transfer.push(store, more, Reference.parse(f"{server.host}/a/b:2"), None)
    steps = Steps()
    second.pull(f"{server.host}/a/b:2", progress=steps)
    assert steps.of(more.blobs[0].digest) == ["Already exists"]
    assert second.pull(f"{server.host}/a/b@{image.digest}").id == image.id
    with pytest.raises(registry.NoManifest, match="has no a/b/3"):
        second.pull(f"{server.host}/a/b:3")
    root = second.mount(pulled, ONE)
    assert Path(root, "etc/passwd").read_bytes().startswith(b"root")
    second.remove_rootfs(ONE)


def test_nobody_there(store: images.Store) -> None:
    with pytest.raises(errors.RegistryError, match="cannot reach 127.0.0.1"):
        store.pull(f"127.0.0.1:{free_port()}/a")


# -- servers that misbehave -------------------------------------------------------------------


class Fake(http.server.BaseHTTPRequestHandler):
    """A registry with what `files` has, and with the faults a test sets."""

    protocol_version = "HTTP/1.1"
    files: ClassVar[dict[str, bytes]] = {}
    kinds: ClassVar[dict[str, str]] = {}
    asked: ClassVar[list[tuple[str, dict[str, str]]]] = []
    break_after = 0  # bytes of a blob, once per request
    ranges = True
    bearer = ""  # the token it wants
    expires: ClassVar[list[str]] = []  # on each blob's upload it wants the next of these tokens instead
    hang_up = False  # when a token has expired it closes the connection and answers nothing
    redirect = ""  # blobs are there
    stalled: ClassVar[threading.Event] = threading.Event()  # while it is not set, a blob stops in its middle
    stalled.set()

    def log_message(self, *_: object) -> None:
        pass

    def reply(self, code: int, data: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for key, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self.asked.append((self.path, dict(self.headers)))
        host = f"http://{self.headers['Host']}"
        if self.path.startswith("/token"):
            self.reply(200, json.dumps({"token": self.bearer}).encode())
        elif self.bearer and self.headers.get("Authorization") != f"Bearer {self.bearer}":
            self.reply(401, WWW_Authenticate=f'Bearer realm="{host}/token",service="s",scope="repository:a:pull"')
        elif self.redirect and "/blobs/" in self.path:
            self.reply(307, Location=self.redirect + self.path)
        elif self.path.rpartition("/")[2] not in self.files:
            self.reply(404, b'{"errors": [{"message": "not here\\u001b[31m"}]}')
        else:
            self.send_file()

    def do_HEAD(self) -> None:
        self.reply(404)

    def do_POST(self) -> None:
        if self.wrong_token():
            return
        self.reply(202, Location="/upload")

    def do_PUT(self) -> None:
        if "digest=" in self.path and self.expires:
            type(self).bearer = self.expires.pop(0)
            if self.hang_up:
                self.close_connection = True
                return
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.wrong_token():
            self.files[re.split("[/=]", self.path)[-1]] = data
            self.reply(201)

    def wrong_token(self) -> bool:
        if not self.bearer or self.headers.get("Authorization") == f"Bearer {self.bearer}":
            return False
        where = f'Bearer realm="http://{self.headers["Host"]}/token",service="s",scope="repository:a:pull"'
        self.reply(401, WWW_Authenticate=where)
        return True

    def send_file(self) -> None:
        name = self.path.rpartition("/")[2]
        data, start = self.files[name], 0
        asked = re.match(r"bytes=([0-9]+)-", self.headers.get("Range", ""))
        if asked and self.ranges:
            start = int(asked[1])
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Type", self.kinds.get(name, "application/octet-stream"))
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if self.break_after and "/blobs/" in self.path and len(data) - start > self.break_after:
            self.wfile.write(data[start : start + self.break_after])
            self.close_connection = True
        elif "/blobs/" in self.path and len(data) > 500_000 and not self.stalled.is_set():
            self.wfile.write(data[start : start + 300_000])
            self.stalled.wait(20)
            self.close_connection = True
        else:
            self.wfile.write(data[start:])


@pytest.fixture
def fake() -> Iterator[Callable[..., tuple[str, type[Fake]]]]:
    servers = []

    def start(**faults: Any) -> tuple[str, type[Fake]]:
        handler = type("Handler", (Fake,), {"files": {}, "kinds": {}, "asked": [], **faults})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        servers.append((server, thread))
        return f"127.0.0.1:{server.server_port}", handler

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


def put(handler: type[Fake], layers: list[bytes], tag: str = "latest", **config: Any) -> tuple[bytes, dict[str, bytes]]:
    """An image on a fake registry."""
    manifest, blobs = blobs_of(layers, **config)
    handler.files |= {**blobs, tag: manifest, digest(manifest): manifest}
    kind = "application/vnd.oci.image.manifest.v1+json"
    handler.kinds |= {tag: kind, digest(manifest): kind}
    return manifest, blobs


def test_resume(store: images.Store, fake: Callable[..., tuple[str, type[Fake]]]) -> None:
    """Each answer breaks off after half a megabyte: the next one goes on from there."""
    host, handler = fake(break_after=500_000)
    manifest, _ = put(handler, [BASE, BIG])
    image = store.pull(f"{host}/a")
    assert image.digest == digest(manifest)
    ranges = [headers["Range"] for path, headers in handler.asked if "Range" in headers]
    assert len(ranges) >= 3
    assert ranges == sorted(ranges, key=lambda text: int(text[6:-1]))


def test_resume_after_a_kill(store: images.Store, fake: Callable[..., tuple[str, type[Fake]]]) -> None:
    """What an earlier command has brought is not fetched again; what it has brought wrong is."""
    host, handler = fake()
    _, blobs = put(handler, [BIG])
    layer = next(data for data in blobs.values() if len(data) > 100_000)
    with contextlib.suppress(RuntimeError), store.blobs.receive(digest(layer)) as incoming:
        incoming.write(layer[:1_000_000])
        raise RuntimeError
    store.pull(f"{host}/a")
    assert [headers["Range"] for _, headers in handler.asked if "Range" in headers] == ["bytes=1000000-"]
    store.remove(f"{host}/a")
    with contextlib.suppress(RuntimeError), store.blobs.receive(digest(layer)) as incoming:
        incoming.write(b"x" * 1_000_000)
        raise RuntimeError
    with pytest.raises(errors.Hostile, match="has the digest"):
        store.pull(f"{host}/a")
    assert store.pull(f"{host}/a")


def test_no_ranges(store: images.Store, fake: Callable[..., tuple[str, type[Fake]]]) -> None:
    """A registry that cannot resume is asked for all of it."""
    host, handler = fake(ranges=False)
    _, blobs = put(handler, [BIG])
    layer = next(data for data in blobs.values() if len(data) > 100_000)
    with contextlib.suppress(RuntimeError), store.blobs.receive(digest(layer)) as incoming:
        incoming.write(layer[:1000])
        raise RuntimeError
    assert store.pull(f"{host}/a")


def test_breaking_off_for_ever(store: images.Store, fake: Callable[..., tuple[str, type[Fake]]]) -> None:
    """A registry that gives no byte more is left after a few tries."""
    host, handler = fake(break_after=1000, ranges=False)
    put(handler, [BIG])
    with pytest.raises(errors.RegistryError, match="breaks off"):
        store.pull(f"{host}/a")


def test_token(store: images.Store, fake: Callable[..., tuple[str, type[Fake]]]) -> None:
    """The token protocol: the password goes to where the token comes from, the token to the registry."""
    host, handler = fake(bearer="secret-token")
    put(handler, [BASE])
    auth.Settings().keep(host, USER, PASSWORD)
    assert store.pull(f"{host}/a")
    (token,) = [(path, headers) for path, headers in handler.asked if path.startswith("/token")][:1]
    assert "scope=repository%3Aa%3Apull" in token[0]
    assert token[1]["Authorization"].startswith("Basic ")
    assert all(
        "Basic" not in headers.get("Authorization", "") for path, headers in handler.asked if "/token" not in path
    )


@pytest.mark.parametrize("hang_up", [False, True])
def test_a_token_expires_in_an_upload(
    store: images.Store, fake: Callable[..., tuple[str, type[Fake]]], hang_up: bool
) -> None:
    """A blob takes longer than its token lives: it is sent again with another one."""
    host, handler = fake(bearer="first", expires=["second"], hang_up=hang_up)
    image = add(store, [BIG], f"{host}/a:1")
    transfer.push(store, image, Reference.parse(f"{host}/a:1"), None)
    assert {image.digest, "1"} & set(handler.files)
    assert all(digest(data) == name for name, data in handler.files.items() if name.startswith("sha256:"))
    again, _ = fake(bearer="first", expires=["second", "third", "fourth", "fifth"], hang_up=hang_up)
    with pytest.raises(errors.RegistryError):
        transfer.push(store, image, Reference.parse(f"{again}/a:1"), None)


def test_redirected_blobs(store: images.Store, fake: Callable[..., tuple[str, type[Fake]]]) -> None:
    """Blobs may be elsewhere; the token stays here."""
    elsewhere, other = fake()
    host, handler = fake(bearer="secret-token", redirect=f"http://{elsewhere}")
    put(handler, [BASE])
    other.files |= handler.files
    assert store.pull(f"{host}/a")
    assert other.asked
    assert all("Authorization" not in headers for _, headers in other.asked)


def test_platforms(store: images.Store, fake: Callable[..., tuple[str, type[Fake]]]) -> None:
    host, handler = fake()
    entries = []
    for arch, variant in ((transfer.own_platform().split("/")[1], ""), ("s390x", ""), ("arm", "v6"), ("arm", "v7")):
        manifest, _ = put(handler, [BASE], f"for-{arch}{variant}", Labels={"arch": arch + variant})
        platform = {"os": "linux", "architecture": arch, **({"variant": variant} if variant else {})}
        kind = "application/vnd.oci.image.manifest.v1+json"
        entries.append({"mediaType": kind, "digest": digest(manifest), "size": len(manifest), "platform": platform})
    index = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    handler.files["latest"] = index
    handler.kinds["latest"] = "application/vnd.oci.image.index.v1+json"
    assert store.pull(f"{host}/a").process.labels == {"arch": transfer.own_platform().split("/")[1]}
    assert store.pull(f"{host}/a").digests == (f"{host}/a@{digest(index)}",)
    assert store.pull(f"{host}/a", platform="linux/arm/v7").process.labels == {"arch": "armv7"}
    assert store.pull(f"{host}/a", platform="linux/arm").process.labels == {"arch": "armv6"}
    assert store.ensure(f"{host}/a", "never").process.labels == {"arch": "armv6"}
    assert store.ensure(f"{host}/a", "never", platform="linux/amd64").platform == "linux/amd64"  # what its config says
    with pytest.raises(errors.NotFound, match="is for linux/amd64 and not for linux/riscv64"):
        store.ensure(f"{host}/a", "never", platform="linux/riscv64")
    with pytest.raises(errors.NotFound, match="not there for linux/mips, but for"):
        store.pull(f"{host}/a", platform="linux/mips")


def lie_manifest(handler: type[Fake], manifest: bytes, blobs: dict[str, bytes]) -> None:
    handler.files[digest(manifest)] = manifest + b" "


def lie_layer(handler: type[Fake], manifest: bytes, blobs: dict[str, bytes]) -> None:
    layer = json.loads(manifest)["layers"][0]["digest"]
    handler.files[layer] = bytes(reversed(blobs[layer]))


def longer_layer(handler: type[Fake], manifest: bytes, blobs: dict[str, bytes]) -> None:
    handler.files[json.loads(manifest)["layers"][0]["digest"]] += b"more"


def lie_config(handler: type[Fake], manifest: bytes, blobs: dict[str, bytes]) -> None:
    handler.files[json.loads(manifest)["config"]["digest"]] = b"{" + b" " * (len(blobs) + 5)


def huge_manifest(handler: type[Fake], manifest: bytes, blobs: dict[str, bytes]) -> None:
    handler.files["latest"] = manifest + b" " * (5 << 20)
    handler.files[digest(manifest)] = handler.files["latest"]


def no_json(handler: type[Fake], manifest: bytes, blobs: dict[str, bytes]) -> None:
    handler.files[digest(manifest)] = handler.files["latest"] = b"[" * 1_000_000


@pytest.mark.parametrize("lie", [lie_manifest, lie_layer, longer_layer, lie_config, huge_manifest, no_json])
def test_lies(
    store: images.Store,
    fake: Callable[..., tuple[str, type[Fake]]],
    lie: Callable[[type[Fake], bytes, dict[str, bytes]], None],
) -> None:
    """What is not what its digest or its size says is not taken, and no image comes of it."""
    host, handler = fake()
    manifest, blobs = put(handler, [BASE])
    lie(handler, manifest, blobs)
    with pytest.raises(errors.Error):
        store.pull(f"{host}/a@{digest(manifest)}")
    assert store.images() == []
    for found in store.blobs.digests():
        with store.blobs.open(found) as file:
            assert f"sha256:{hashlib.sha256(file.read()).hexdigest()}" == found


def test_words_of_a_registry(store: images.Store, fake: Callable[..., tuple[str, type[Fake]]]) -> None:
    """What it says is shown, and moves no cursor."""
    host, _ = fake()
    with pytest.raises(registry.NoManifest, match=r"has no a/latest: not here\[31m") as caught:
        store.pull(f"{host}/a")
    assert "\x1b" not in str(caught.value)


def test_secrecy() -> None:
    """A registry that speaks TLS leads nobody to one that does not."""
    found = registry.Registry(Reference.parse("registry.test/a"))
    with pytest.raises(errors.RegistryError, match="not encrypted"):
        found._same_secrecy("http://elsewhere.test/token")
    request = urllib.request.Request("https://registry.test/v2/", headers={"Authorization": "x"})
    redirects = registry._Redirects()
    nothing: Any = None
    with pytest.raises(errors.RegistryError, match="not encrypted"):
        redirects.redirect_request(request, nothing, 307, "", nothing, "http://registry.test/v2/")
    moved = redirects.redirect_request(request, nothing, 307, "", nothing, "https://elsewhere.test/v2/")
    assert moved
    assert not moved.has_header("Authorization")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.1.2.3:80", True),
        ("[::1]:5000", True),
        ("registry.test", False),
        ("127.0.0.1.evil.test", False),
        ("localhost.evil.test:5000", False),
        ("10.0.0.1", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert auth.is_loopback(host) is expected


def test_insecure_registries(settings: Path) -> None:
    assert not auth.Settings().is_insecure("registry.test:5000")
    settings.mkdir(parents=True)
    (settings / "config.json").write_text('{"insecure-registries": ["registry.test:5000"]}')
    assert auth.Settings().is_insecure("registry.test:5000")


def test_damaged_logins(settings: Path) -> None:
    settings.mkdir(parents=True)
    (settings / "auth.json").write_text('{"auths": {"h": {"auth": "%%%"}, "g": 5}}')
    with pytest.raises(errors.Error, match="log in again"):
        auth.Settings().login("h")
    assert auth.Settings().login("g") is None
    auth.Settings().keep("h", "a", "b:c")
    assert auth.Settings().login("h") == ("a", "b:c")
    assert auth.Settings().forget("h")
    assert not auth.Settings().forget("h")
