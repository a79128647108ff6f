"""Where everything is (docs/MYDOCKER.md, "Files on disk").  Nothing is made here but by `make`."""

from __future__ import annotations

import hashlib
import os
import stat

from pyoci.mydocker import errors, rootless

# Containers in a user namespace must be able to walk through to their root file system.
_TRAVERSABLE = 0o711
_PRIVATE = 0o700


class Paths:
    """The directories of one store.

    root: str, absolute, survives a reboot
    run:  str, absolute, does not
    """

    def __init__(self, root: str, run: str) -> None:
        self.root = root
        self.run = run
        self.blobs = f"{root}/blobs/sha256"
        self.partial = f"{root}/blobs/partial"
        self.images = f"{root}/images"
        self.refs = f"{root}/refs"
        self.layers = f"{root}/layers"
        self.overlay = f"{root}/overlay"
        self.volumes = f"{root}/volumes"
        self.containers = f"{root}/containers"
        self.networks = f"{root}/networks"
        self.states = f"{run}/pyoci"
        self.content_lock = f"{root}/lock"
        self.records_lock = f"{root}/records.lock"
        self.debug = False  # --debug: tracebacks

    @classmethod
    def default(cls, root: str | None = None) -> Paths:
        """root: --root, or None for the user's own.  Raises errors.Error for a directory that cannot be."""
        own_root, own_run = _own()
        if root is None:
            return cls(own_root, own_run)
        absolute = os.path.realpath(root)
        name = hashlib.sha256(os.fsencode(absolute)).hexdigest()[:12]
        return cls(absolute, own_run if absolute == os.path.realpath(own_root) else f"{own_run}/{name}")

    def make(self) -> Paths:
        """Make every directory that is not there."""
        private = (self.blobs, self.partial, self.images, self.refs, self.layers, self.networks, self.states)
        try:
            for directory in (self.root, self.overlay, self.volumes, self.containers):
                os.makedirs(directory, _TRAVERSABLE, exist_ok=True)
            for directory in private:
                os.makedirs(directory, _PRIVATE, exist_ok=True)
        except OSError as error:
            raise errors.StorageError(f"cannot make {error.filename}: {error.strerror}", hint="see --root") from None
        for directory in (self.root, self.run):
            _check_owner(directory)
        return self


def _check_owner(directory: str) -> None:
    """RUN may be below /tmp, where anybody can have made it before us."""
    found = os.stat(directory, follow_symlinks=False)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise errors.StorageError(f"{directory} is not a directory that only the caller can write", hint="see --root")


def _own() -> tuple[str, str]:
    """ROOT and RUN of the caller: root's, or by the XDG base directories.

    A user who has become root of a user namespace (rootless.py) keeps its own: the marker says so.
    """
    if os.geteuid() == 0 and not rootless.active():
        return "/var/lib/mydocker", "/run/mydocker"
    uid = os.environ.get(rootless.UID_VARIABLE) or str(os.geteuid())
    home = os.environ.get("HOME", "")
    data = os.environ.get("XDG_DATA_HOME") or (f"{home}/.local/share" if home else "")
    if not data.startswith("/"):
        raise errors.Error("cannot tell where to keep images: neither XDG_DATA_HOME nor HOME is set", hint="use --root")
    run = os.environ.get("XDG_RUNTIME_DIR") or ""
    return f"{data}/mydocker", f"{run}/mydocker" if run.startswith("/") else f"/tmp/mydocker-{uid}"
