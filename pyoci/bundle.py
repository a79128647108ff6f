"""The bundle: a directory with config.json, read once and made absolute (bundle.md)."""

from __future__ import annotations

import stat

from pyoci import errors, json, kernel, spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_SIZE = 8 << 20  # bytes of config.json: engines write less than 1 MiB, and execve(2) takes 6 MiB of strings
CONFIG = "config.json"


class Bundle:
    """A validated bundle.

    path:   str, absolute, without symlinks.
    config: dict, checked; root.path and the sources of bind mounts are absolute.
    raw:    bytes of config.json as they were read (row L07: what create froze).
    """

    __slots__ = ("config", "path", "raw")

    def __init__(self, path: str, config: dict[str, Any], raw: bytes) -> None:
        self.path = path
        self.config = config
        self.raw = raw

    def check_rootfs(self) -> None:
        """Raise errors.InvalidConfig unless root.path is a directory that is there (row M01)."""
        path = self.config["root"]["path"]
        try:
            mode = kernel.stat(path).st_mode
        except OSError as error:
            reason = errors.errno_text(error.errno or 0)
            raise errors.InvalidConfig(f"root file system {path}: {reason}", where="/root/path") from None
        if not stat.S_ISDIR(mode):
            raise errors.InvalidConfig(f"root file system {path}: not a directory", where="/root/path")


def load(bundle: str, config: str | None = None) -> Bundle:
    """Read and check a bundle.

    bundle: path of the directory.  config: path of another file to read in place of its
    config.json, or None.
    Raises errors.InvalidConfig: no directory, no config.json, larger than MAX_SIZE, not
    JSON, or not what the runtime-spec asks (then with every fault).
    """
    path = directory(bundle)
    raw = read(kernel.join(path, CONFIG) if config is None else config)
    value = json.loads(raw, CONFIG if config is None else config)
    spec.validate(value)
    _make_absolute(value, path)
    return Bundle(path, value, raw)


def from_config(config: dict[str, Any], bundle: str) -> Bundle:
    """The bundle of a config made in memory; relative paths in it are under the directory bundle.

    The config is copied.  Raises errors.InvalidConfig as load does.
    """
    path = directory(bundle)
    try:
        raw = json.dumps(config).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise errors.InvalidConfig(f"the config has no JSON form: {error}") from None
    value = json.loads(raw, CONFIG)
    spec.validate(value)
    _make_absolute(value, path)
    return Bundle(path, value, raw)


def directory(bundle: str) -> str:
    """The absolute path, without symlinks, of a bundle directory that is there.

    Raises errors.InvalidConfig; also for a path that is not UTF-8, which state.json could not hold.
    """
    if not bundle:
        raise errors.InvalidConfig("the bundle is an empty path")
    try:
        path = kernel.realpath(bundle)
        path.encode()
    except UnicodeEncodeError:
        raise errors.InvalidConfig(f"bundle {bundle!a}: the path is not UTF-8") from None
    except (OSError, ValueError) as error:
        raise errors.InvalidConfig(f"bundle {bundle}: {_reason(error)}") from None
    if not kernel.isdir(path):
        raise errors.InvalidConfig(f"bundle {bundle}: not a directory")
    return path


def read(path: str, limit: int = MAX_SIZE) -> bytes:
    """The bytes of a regular file (config.json, process.json, a seccomp profile), or of stdin.

    path: "-" for stdin.  limit: most bytes that are read.  Raises errors.InvalidConfig when it cannot be opened,
    is not a regular file, or is larger.
    """
    try:
        # NONBLOCK: open(2) of a FIFO with no writer would hang
        flags = kernel.O_RDONLY | kernel.O_CLOEXEC | kernel.O_NONBLOCK | kernel.O_NOCTTY
        fd = kernel.dup(0) if path == "-" else kernel.open(path, flags)
    except (OSError, ValueError) as error:
        raise errors.InvalidConfig(f"{path}: {_reason(error)}", hint=_missing_hint(path, error)) from None
    try:
        facts = kernel.fstat(fd)
        if not stat.S_ISREG(facts.st_mode) and path != "-":
            raise errors.InvalidConfig(f"{path}: not a regular file")
        data = _read_all(fd, facts.st_size, limit)
    except OSError as error:
        raise errors.InvalidConfig(f"{path}: {_reason(error)}") from None
    finally:
        kernel.close(fd)
    if data is None:
        raise errors.InvalidConfig(f"{path}: larger than {limit >> 10} KiB")
    return data


def _read_all(fd: int, size: int, limit: int) -> bytes | None:
    """All bytes of fd; None when there are more than limit.  size is a guess (/proc says 0)."""
    if size > limit:
        return None
    data = kernel.read(fd, size + 1)
    while len(data) <= limit:
        more = kernel.read(fd, 1 << 16)
        if not more:
            return data
        data += more
    return None


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError) and error.errno:
        return errors.errno_text(error.errno)
    return str(error)


def _missing_hint(path: str, error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError) and kernel.split(path)[1] == CONFIG:
        return "`pyoci spec` writes one to begin with"
    return ""


def _make_absolute(config: dict[str, Any], bundle: str) -> None:
    """Paths that the spec has relative to the bundle (rows M01, M05), in place."""
    root = config["root"]
    path = kernel.join(bundle, root["path"])
    try:
        root["path"] = kernel.realpath(path)
    except OSError:  # `plan` works without a rootfs; create says that it is missing
        root["path"] = kernel.abspath(path)
    for mount in config.get("mounts", ()):
        source = mount.get("source")
        if source and is_bind(mount) and source[0] != "/":
            mount["source"] = kernel.join(bundle, source)


def is_bind(mount: dict[str, Any]) -> bool:
    """Whether a mount of the config is a bind mount (row M05: by its options, whatever its type).

    Type "bind" with neither option is taken for one too, as every runtime does.
    """
    options = mount.get("options", ())
    return "bind" in options or "rbind" in options or mount.get("type") == "bind"
