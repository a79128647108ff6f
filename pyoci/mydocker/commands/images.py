"""mydocker images."""

from __future__ import annotations

import click

from pyoci.mydocker import cli, errors, images, options, show
from pyoci.mydocker.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_FILTERS = ("dangling", "label", "reference", "before", "since")


@options.command("images")
@click.argument("name", required=False)
@options.option("-a", "--all", "all_", is_flag=True, hidden=True, help="There are no intermediate images here")
@options.option("-q", "--quiet", is_flag=True, help="Only ids")
@options.option("--no-trunc", is_flag=True, help="Whole ids")
@options.option("--digests", is_flag=True, help="Show digests too")
@options.option(
    "-f", "--filter", "filters", multiple=True, metavar="NAME=VALUE", help="dangling, label, reference, before, since"
)
@options.option(
    "--format", "template", default="", help="json, or text with {{.Repository}} {{.Tag}} {{.ID}} {{.Size}} ..."
)
def command(
    name: str | None, all_: bool, quiet: bool, no_trunc: bool, digests: bool, filters: tuple[str, ...], template: str
) -> None:
    """List images."""
    store = images.Store(cli.paths())
    chosen = _filtered(store, show.filters(filters, _FILTERS))
    found = [row for image in chosen for row in _rows(image, no_trunc, digests) if _is_called(row, name)]
    for problem in store.problems:
        cli.say(problem)
    if quiet:
        for identity in dict.fromkeys(row["ID"] for row in found):
            print(identity)
        return
    columns = {
        "REPOSITORY": "Repository",
        "TAG": "Tag",
        "DIGEST": "Digest",
        "IMAGE ID": "ID",
        "CREATED": "CreatedSince",
    }
    if not digests:
        del columns["DIGEST"]
    show.rows(found, {**columns, "SIZE": "Size"}, template)


def _filtered(store: images.Store, wanted: dict[str, list[str]]) -> list[images.Image]:
    found = store.images()
    for name, older in (("before", True), ("since", False)):
        for text in wanted.get(name, []):
            limit = store.resolve(text).created
            found = [image for image in found if (image.created < limit if older else image.created > limit)]
    for text in wanted.get("dangling", []):
        if text not in ("true", "false"):
            raise errors.UsageError(f"invalid filter dangling={text}", hint="true or false")
        found = [image for image in found if (not image.tags) == (text == "true")]
    found = [image for image in found if show.has_labels(image.process.labels, wanted.get("label", []))]
    if "reference" in wanted:
        found = [image for image in found if any(_matches(tag, wanted["reference"]) for tag in image.tags)]
    return found


def _matches(tag: str, patterns: list[str]) -> bool:
    from fnmatch import fnmatchcase

    return any(fnmatchcase(tag, text) or fnmatchcase(tag.rpartition(":")[0], text) for text in patterns)


def _is_called(row: dict[str, Any], name: str | None) -> bool:
    """`images REPOSITORY[:TAG]`."""
    if not name:
        return True
    wanted = Reference.parse(name)
    return row["Repository"] == wanted.repository and (":" not in name.rpartition("/")[2] or row["Tag"] == wanted.tag)


def _rows(image: images.Image, no_trunc: bool, digests: bool) -> Iterator[dict[str, Any]]:
    """One per name; an image without a tag has one all the same."""
    by_repository = {text.partition("@")[0]: text.partition("@")[2] for text in image.digests}
    names = [tag.rpartition(":")[::2] for tag in image.tags]
    tagged = {repository for repository, _ in names}
    if not names or digests:
        names += [(repository, "<none>") for repository in by_repository if repository not in tagged]
    for repository, tag in names or [("<none>", "<none>")]:
        yield {
            "Repository": repository,
            "Tag": tag,
            "Digest": by_repository.get(repository, "<none>"),
            "ID": image.id if no_trunc else show.short(image.id),
            "CreatedSince": show.age(image.created),
            "CreatedAt": image.created,
            "Size": show.size(image.size),
        }
