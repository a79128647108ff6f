"""mydocker run, mydocker create."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys

import click

import pyoci
from pyoci.mydocker import (
    cli,
    console,
    containers,
    creation,
    errors,
    foreground,
    images,
    lifecycle,
    monitor,
    options,
    preparation,
    runoptions,
    runspec,
)
from pyoci.mydocker.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.mydocker.image import Image


@options.command("create", stops_at_image=True)
@runoptions.decorate
def command_create(image: str, command: tuple[str, ...], **given: Any) -> int:
    """Make a container and do not start it."""
    with _run_codes():
        container = _make(given, image, command, detached=False)
    if container:
        click.echo(container.id)
    return 0


@options.command("run", stops_at_image=True)
@options.option("-d", "--detach", is_flag=True, help="Do not stay; print its id")
@options.option("--detach-keys", default=console.DEFAULT_KEYS, help="Keys that leave it running (ctrl-p,ctrl-q)")
@options.option("--sig-proxy", type=bool, default=True, help="Send it the signals we get (true)")
@runoptions.decorate
def command_run(
    image: str, command: tuple[str, ...], detach: bool, detach_keys: str, sig_proxy: bool, **given: Any
) -> int:
    """Make a container of an image and run a command in it."""
    with _run_codes():
        if not detach and not given["dry_run"]:
            foreground.check_terminal(
                given["tty"], given["interactive"] and not given["attach"]
            )  # -a stdin is no person's
        container = _make(given, image, command, detached=detach)
        if container is None:
            return 0
        try:
            if detach:
                lifecycle.start(container)
                click.echo(container.id)
                return 0
            code = foreground.run(container, keys=detach_keys, proxy=sig_proxy)
            if code is None:
                click.echo(container.id)
            return code or 0
        except BaseException:
            if given["rm"] and not container.state().alive:
                lifecycle.discard(container)
            raise


class _run_codes:  # noqa: N801
    """docker run's exit codes: 125 for what is docker's own failure."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: object, _trace: object) -> None:
        if isinstance(error, pyoci.Error) and error.code == 1 and str(error) != "the input device is not a TTY":
            error.code = 125


def _make(given: dict[str, Any], reference: str, command: tuple[str, ...], detached: bool) -> Any:
    """The container; None after --dry-run."""
    paths = cli.paths()
    if reference.startswith("/"):  # no image's name: the book's first chapters give a program only
        reference, command = "busybox", (reference, *command)
    image = _image(paths, reference, given)
    record = runspec.make(given, image, reference, command, detached)
    if given["dry_run"]:
        _dry_run(paths, record, given, image)
        return None
    if given["cidfile"] and os.path.exists(given["cidfile"]):
        raise errors.UsageError(
            f"container ID file found, make sure the other container isn't running: {given['cidfile']}"
        )
    container = creation.create(paths, record, given["name"], image)
    if given["cidfile"]:
        with open(given["cidfile"], "x", encoding="ascii") as file:
            file.write(container.id)
    return container


def _image(paths: Any, reference: str, given: dict[str, Any]) -> Image:
    from pyoci.mydocker import busybox, progress

    store, platform, policy = images.Store(paths), given["platform"] or "", given["pull"]
    if policy == "missing":
        try:
            return store.ensure(reference, policy="never", platform=platform)
        except errors.NotFound:
            if not busybox.is_meant(reference):
                sys.stderr.write(f"Unable to find image '{Reference.parse(reference)}' locally\n")
    # what it tells goes to stdout, which is the container's here: it is for a person who looks, or not at all
    quiet = given["quiet"] or not sys.stdout.isatty()
    with progress.watcher(quiet=quiet) or contextlib.nullcontext() as shown:
        return store.ensure(reference, policy=policy, platform=platform, progress=shown)


def _dry_run(paths: Any, record: dict[str, Any], given: dict[str, Any], image: Image) -> None:
    """config.json, and what would be called with it; the root file system is made for a look, and removed."""
    id = "0" * 64
    store = images.Store(paths)
    container = containers.Container(paths, id, {**record, "id": id, "name": given["name"] or "dry-run"})
    record["config"]["Hostname"] = record["config"]["Hostname"] or id[:12]
    try:
        os.makedirs(container.directory, 0o711, exist_ok=True)
        rootfs = store.mount(image, id)
        made = preparation.make_config(container, rootfs)
    finally:
        store.remove_rootfs(id)
        container.forget()
    click.echo(json.dumps(made, indent=2))
    line = [monitor.runtime_path(), "--root", paths.states, "create", "--bundle", container.run, id]
    sys.stderr.write(f"{shlex.join(line)}\n")
