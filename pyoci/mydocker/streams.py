"""Bytes on their way: hashed, counted, limited, compressed and decompressed."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import zlib

from pyoci.mydocker import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    import io
    from typing import IO, Any, Protocol

    class Readable(Protocol):
        def read(self, size: int, /) -> bytes: ...

    class Writable(Protocol):
        def write(self, data: bytes, /) -> object: ...


CHUNK = 1 << 20
_XZ_MEMORY = 1 << 27  # bytes: `xz -9` needs half of it
_WINDOW = 1 << 27  # bytes a zstd frame may make us remember: what `zstd --long` allows
_GZIP, _BZIP2, _XZ, _ZSTD = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"


class HashingReader:
    """Reads from a stream; hashes and counts what went through, and ends when it is too much.

    what:  str, for the error
    limit: int, bytes
    """

    def __init__(self, source: Readable, what: str, limit: int) -> None:
        self.source = source
        self.what = what
        self.limit = limit
        self.count = 0
        self._hash = hashlib.sha256()

    def read(self, size: int = CHUNK, /) -> bytes:
        """Raises errors.Hostile beyond the limit or when the compressed data are damaged."""
        try:
            data = self.source.read(size)
        except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
            raise errors.Hostile(f"{self.what} is damaged: {error}") from None
        except OSError as error:
            if error.errno is None:  # bz2 and gzip say so without a number
                raise errors.Hostile(f"{self.what} is damaged: {error}") from None
            raise
        self._hash.update(data)
        self.count += len(data)
        if self.count > self.limit:
            raise errors.Hostile(f"{self.what} is larger than {self.limit} bytes")
        return data

    def drain(self) -> None:
        """Read to the end: the digest is that of everything."""
        while self.read(CHUNK):
            pass

    @property
    def digest(self) -> str:
        """sha256:... of what was read so far."""
        return f"sha256:{self._hash.hexdigest()}"


class HashingWriter:
    """Writes to a file; hashes and counts what went through."""

    def __init__(self, target: Writable) -> None:
        self.target = target
        self.count = 0
        self._hash = hashlib.sha256()

    def write(self, data: bytes, /) -> int:
        """All of it."""
        self.target.write(data)
        self._hash.update(data)
        self.count += len(data)
        return len(data)

    @property
    def digest(self) -> str:
        """sha256:... of what was written so far."""
        return f"sha256:{self._hash.hexdigest()}"


def decompressed(file: io.BufferedReader) -> Readable:
    """What a file holds, by its first bytes: gzip, zstd, bzip2, xz, or as it is.  A pipe will do."""
    magic = file.peek(6)
    if magic.startswith(_GZIP):
        return gzip.GzipFile(fileobj=file)
    if magic.startswith(_BZIP2):
        return bz2.BZ2File(file)
    if magic.startswith(_XZ):
        return _Xz(file)
    if magic.startswith(_ZSTD):
        return _Zstd(file)
    return file


class _Xz:
    """xz streams, one after the other; lzma.LZMAFile would take as much memory as they ask for."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.decompressor = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
        self.pending = b""

    def read(self, size: int, /) -> bytes:
        """As a file; EOFError for what breaks off."""
        while True:
            if self.decompressor.eof:
                self.pending = (self.decompressor.unused_data or self.file.read(CHUNK)).lstrip(b"\0")
                if not self.pending:
                    return b""
                self.decompressor = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
            if self.decompressor.needs_input and not self.pending:
                self.pending = self.file.read(CHUNK)
                if not self.pending:
                    raise EOFError("it breaks off")
            data = self.decompressor.decompress(self.pending, size)
            self.pending = b""
            if data:
                return data


class _Zstd:
    """A zstd stream whose faults are those of the other formats."""

    def __init__(self, file: IO[bytes]) -> None:
        import zstandard

        self.error = zstandard.ZstdError
        decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
        self.reader = decompressor.stream_reader(file, read_across_frames=True)

    def read(self, size: int, /) -> bytes:
        """As a file; EOFError for what is no zstd."""
        try:
            return self.reader.read(size)
        except self.error as error:
            raise EOFError(str(error)) from None


def compression(magic: bytes) -> str:
    """What the first bytes of a layer say, as its media type ends: "+gzip", "+zstd", ""; "+" for what no layer has."""
    if magic.startswith((_BZIP2, _XZ)):
        return "+"
    return "+gzip" if magic.startswith(_GZIP) else "+zstd" if magic.startswith(_ZSTD) else ""


def compressor(file: HashingWriter) -> gzip.GzipFile:
    """gzip as layers have it: no name, no time, so that the same content has the same digest."""
    target: Any = file
    return gzip.GzipFile(filename="", mode="wb", fileobj=target, compresslevel=6, mtime=0)
