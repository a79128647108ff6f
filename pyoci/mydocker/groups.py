"""docker's longer spellings, `container ls` and `image rm`: the same commands by other names, in no help."""

from __future__ import annotations

import click

_CONTAINER = (
    "attach commit cp create diff exec export inspect kill logs pause port rename restart rm run start stats stop top "
    "unpause update wait"
)
_IMAGE = "history import inspect load pull push save tag"
MEMBERS = {
    "container": {**{name: name for name in _CONTAINER.split()}, "ls": "ps", "list": "ps", "ps": "ps"},
    "image": {
        **{name: name for name in _IMAGE.split()},
        "ls": "images",
        "list": "images",
        "rm": "rmi",
        "remove": "rmi",
    },
}


class Nouns(click.Group):
    """One of the two."""

    def __init__(self, name: str, whole: click.Group) -> None:
        super().__init__(name, help=f"Commands of {name}s", no_args_is_help=True)
        self.whole = whole
        self.members = MEMBERS[name]

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """In the order of the alphabet."""
        return sorted(self.members)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """None for what is none of them."""
        return self.whole.get_command(ctx, self.members[cmd_name]) if cmd_name in self.members else None
