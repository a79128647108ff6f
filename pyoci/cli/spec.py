"""pyoci spec: a config.json to begin with."""

from __future__ import annotations

import os

from pyoci import container_plan, errors, json
from pyoci.cli import options
from pyoci.cli.options import Option

ARGS = ()
OPTIONS = (
    Option("bundle", "directory to write it to (default: the current directory)", "DIR", short="b"),
    Option("file", "file to write in place of the bundle's config.json", "FILE", short="f"),
    Option("rootless", "for a user without privileges"),
)
HELP = """\
config.json is written into the bundle: a shell with a terminal, in namespaces of its own, on a
read-only root file system in rootfs/.
"""
NAME = "config.json"


def run(given: options.Parsed, opts: options.Parsed) -> int:
    """Write it."""
    config = container_plan.default_config(rootless=opts.flag("rootless"))
    path = os.path.join(opts.text("bundle"), opts.text("file") or NAME)
    save(path, (json.dumps(config, indent=2) + "\n").encode())
    return 0


def save(path: str, data: bytes) -> None:
    """Write a new file.  Raises errors.AlreadyExists, errors.SetupError."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            while data:
                data = data[os.write(fd, data) :]
        finally:
            os.close(fd)
    except FileExistsError:
        raise errors.AlreadyExists(f"File {os.path.basename(path)} exists. Remove it first") from None
    except OSError as error:
        raise errors.failed(f"cannot write {path}", error) from None
