"""mydocker pull."""

from __future__ import annotations

import contextlib

import click

from pyoci.mydocker import cli, errors, images, options, progress
from pyoci.mydocker.reference import Reference


@options.command("pull")
@click.argument("name")
@options.option("-q", "--quiet", is_flag=True, help="Only the name at the end")
@options.option("--platform", default="", metavar="OS/ARCH", help="Another than this machine's (linux/arm64)")
def command(name: str, quiet: bool, platform: str) -> None:
    """Fetch an image from a registry; what is here already is not fetched again."""
    store = images.Store(cli.paths())
    reference = Reference.parse(name)
    if not quiet and reference.tag and ":" not in name.rpartition("/")[2]:
        print(f"Using default tag: {reference.tag}")
    if not quiet:
        print(f"{reference.version}: Pulling from {reference.path}", flush=True)
    before = _identity(store, name)
    with progress.watcher(quiet) or contextlib.nullcontext() as shown:
        image = store.pull(name, platform=platform, progress=shown)
    for warning in store.warnings:
        cli.say(f"warning: {warning}")
    if not quiet:
        digest = next((text for text in image.digests if text.startswith(f"{reference.repository}@")), "")
        print(f"Digest: {digest.partition('@')[2]}")
        said = "Image is up to date" if image.id == before else "Downloaded newer image"
        print(f"Status: {said} for {reference}")
    print(reference.full())


def _identity(store: images.Store, name: str) -> str:
    try:
        return store.resolve(name).id
    except errors.NotFound:
        return ""
