"""How mydocker says no: pyoci's errors, with docker's exit codes."""

from __future__ import annotations

import pyoci


class Error(pyoci.Error):
    """Base of what mydocker raises on purpose; `code` is the exit status (1; `run` has 125, 126, 127)."""


class UsageError(Error):
    """The command line is wrong."""

    code = 125


class NotFound(Error):
    """No image, container, volume or network of this name."""


class Conflict(Error):
    """The name is taken, or the thing is in use."""


class Hostile(Error):
    """What came from outside (a layer, a manifest, a registry's answer) is not what it may be."""


class RegistryError(Error):
    """The registry said no, or did not answer."""


class StorageError(Error):
    """The disk, or the kernel on its behalf, refused."""
