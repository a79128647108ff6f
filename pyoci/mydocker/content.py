"""Blobs by their digest.  What has the name was read in full and had the digest; the rest is in partial/."""

from __future__ import annotations

import fcntl
import hashlib
import os

from pyoci.mydocker import errors, records, reference, streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    import io
    from collections.abc import Iterator
    from typing import IO, Any

    from pyoci.mydocker.paths import Paths
    from pyoci.mydocker.streams import Readable

DOCUMENT_LIMIT = 4 << 20  # bytes of a manifest or a config


class Missing(errors.NotFound):
    """A blob that should be there is not."""


class Blobs:
    """ROOT/blobs: content by digest."""

    def __init__(self, paths: Paths) -> None:
        self.directory = paths.blobs
        self.partial = paths.partial

    def path(self, digest: str) -> str:
        """Where a blob is or would be.  Raises errors.Hostile for what is no digest."""
        if not reference.is_digest(digest):
            raise errors.Hostile(f"{digest[:80]!r} is no digest", hint="only sha256 is supported")
        return f"{self.directory}/{digest.removeprefix('sha256:')}"

    def has(self, digest: str) -> bool:
        """Whether it is there, whole."""
        return os.path.exists(self.path(digest))

    def size(self, digest: str) -> int:
        """Bytes.  Raises Missing."""
        try:
            return os.stat(self.path(digest)).st_size
        except FileNotFoundError:
            raise Missing(f"the blob {digest} is missing") from None

    def open(self, digest: str) -> io.BufferedReader:
        """For reading.  Raises Missing."""
        try:
            return open(self.path(digest), "rb")
        except FileNotFoundError:
            raise Missing(f"the blob {digest} is missing", hint="pull or load the image again") from None

    def document(self, digest: str) -> dict[str, Any]:
        """A manifest or config, its digest verified again.  Raises Missing, errors.Hostile, records.Broken."""
        return records.parse_object(self.text(digest), digest)

    def text(self, digest: str) -> bytes:
        """The bytes of a small blob.  Raises as document()."""
        with self.open(digest) as file:
            data = file.read(DOCUMENT_LIMIT + 1)
        if len(data) > DOCUMENT_LIMIT:
            raise errors.Hostile(f"{digest} is larger than {DOCUMENT_LIMIT} bytes")
        if digest_of(data) != digest:
            raise errors.Hostile(f"the blob {digest} is damaged on disk", hint="pull or load the image again")
        return data

    def add(self, data: bytes) -> str:
        """A small blob, from memory; gives its digest."""
        digest = digest_of(data)
        if not self.has(digest):
            with self.receive(digest) as incoming:
                if not incoming.done:
                    incoming.restart()
                    incoming.write(data)
                    incoming.finish()
        return digest

    def add_stream(self, source: Readable, what: str, limit: int, digest: str = "") -> tuple[str, int]:
        """A blob from a stream, of a digest that is known or not; gives digest and size.

        Raises errors.Hostile when it has another digest or is beyond the limit.
        """
        reader = streams.HashingReader(source, what, limit)
        with self.create() as blob:
            while data := reader.read(streams.CHUNK):
                blob.file.write(data)
            if digest and reader.digest != digest:
                raise errors.Hostile(f"{what} has the digest {reader.digest}, not {digest}")
            blob.finish(reader.digest)
        return reader.digest, reader.count

    def create(self) -> NewBlob:
        """A blob whose digest is not known yet."""
        return NewBlob(self)

    def receive(self, digest: str) -> Incoming:
        """The right to bring a blob in, waited for: another command may be at it."""
        return Incoming(self, digest)

    def sweep_partial(self) -> None:
        """Remove what has arrived of blobs that nobody is fetching now."""
        for name in os.listdir(self.partial):
            try:
                with records.Lock(f"{self.partial}/{name}", wait=False):
                    records.remove(f"{self.partial}/{name}")
            except records.Lock.Busy:
                continue

    def digests(self) -> Iterator[str]:
        """Of every blob that is there."""
        for name in sorted(os.listdir(self.directory)):
            if reference.is_digest(f"sha256:{name}"):
                yield f"sha256:{name}"


class NewBlob:
    """A file to be written, in a with block; it is a blob once finish() gave it its digest.

    file: binary, open for writing and reading
    """

    def __init__(self, blobs: Blobs) -> None:
        self.blobs = blobs
        self.path = f"{blobs.partial}/.{os.getpid()}-{os.urandom(8).hex()}"

    def __enter__(self) -> NewBlob:
        self.file = open(self.path, "x+b")
        fcntl.flock(self.file, fcntl.LOCK_EX)  # somebody is at it: sweep_partial
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        records.remove(self.path)

    def finish(self, digest: str) -> None:
        """digest: of what was written; the caller has counted along."""
        _sync(self.file)
        os.rename(self.path, self.blobs.path(digest))
        records.sync_directory(self.blobs.directory)


class Incoming:
    """A blob on its way in: the file in partial/, locked.  In a with block; what has arrived stays for the next try.

    size: int, bytes that are there already
    done: bool, whether the blob is there, whole (another command brought it)
    """

    def __init__(self, blobs: Blobs, digest: str) -> None:
        self.blobs = blobs
        self.digest = digest
        self.target = blobs.path(digest)
        self.path = f"{blobs.partial}/{digest.removeprefix('sha256:')}"
        self.size = 0
        self.done = False

    def __enter__(self) -> Incoming:
        while True:
            self._lock = records.Lock(self.path)
            self._lock.__enter__()
            if _same(self._lock.fd, self.path):
                break
            self._lock.__exit__()  # it was finished or swept while we waited
        self.done = os.path.exists(self.target)
        self.file = open(self._lock.fd, "r+b", closefd=False)
        self._hash = hashlib.sha256()
        self.size = 0
        while data := self.file.read(streams.CHUNK):  # hashed again: the disk may have lost some
            self._hash.update(data)
            self.size += len(data)
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        # once it has been renamed, what is in its place is another command's
        if (self.done or not self.size) and _same(self._lock.fd, self.path):
            records.remove(self.path)
        self._lock.__exit__()

    def restart(self) -> None:
        """Forget what has arrived."""
        self.file.seek(0)
        self.file.truncate()
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        """The next bytes."""
        self.file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def finish(self) -> None:
        """All is there.  Raises errors.Hostile when the digest is another; the next try begins anew then."""
        found = f"sha256:{self._hash.hexdigest()}"
        if found != self.digest:
            self.restart()
            raise errors.Hostile(f"what should be {self.digest} has the digest {found}")
        _sync(self.file)
        os.rename(self.path, self.target)
        records.sync_directory(self.blobs.directory)
        self.done = True


def digest_of(data: bytes) -> str:
    """sha256:..."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _same(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
