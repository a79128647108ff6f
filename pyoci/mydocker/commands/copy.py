"""mydocker cp."""

from __future__ import annotations

import click

from pyoci.mydocker import cli, containers, copying, copytar, errors, options, output


@options.command("cp")
@options.option("-a", "--archive", is_flag=True, help="Keep owners")
@options.option("-L", "--follow-link", is_flag=True, help="Copy what a link at SOURCE leads to")
@options.option("-q", "--quiet", is_flag=True, hidden=True, help="As always: it says nothing")
@click.argument("source", metavar="[CONTAINER:]SOURCE|-")
@click.argument("target", metavar="[CONTAINER:]TARGET|-")
def command_cp(source: str, target: str, archive: bool, follow_link: bool, quiet: bool) -> None:
    """Copy files from a container or to one; SOURCE/. is what is in a directory, - a tar as stdin or stdout."""
    origin, goal = _split(source), _split(target)
    if bool(origin[0]) == bool(goal[0]):
        raise errors.UsageError("one of the two is in a container: CONTAINER:PATH", code=1)
    container = containers.find(cli.paths(), origin[0] or goal[0])
    with copying.root_of(container) as (root, ids):
        one, other = (
            copying.Side(root, path, ids) if name else copying.Side(-1, path) for name, path in (origin, goal)
        )
        if origin == ("", "-"):
            with open(0, "rb", closefd=False) as file:
                copytar.unpack(file, other)
        elif goal == ("", "-"):
            with output.binary(None) as stdout:
                copytar.pack(one, stdout, follow=follow_link)
        else:
            copying.copy(one, other, owner=archive, follow=follow_link)


def _split(text: str) -> tuple[str, str]:
    """CONTAINER and path; no container for /a:b and ./a:b."""
    name, colon, path = text.partition(":")
    if not colon or text.startswith(("/", ".")):
        return "", text
    return name, path if path.startswith("/") else f"/{path}"
