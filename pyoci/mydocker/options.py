"""click, with what docker's command line has and click has not: hidden spellings, and docker's units."""

from __future__ import annotations

import re

import click

from pyoci.mydocker import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_LONGEST = 40  # characters of a size; int() of a float that is infinite raises OverflowError
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgtp]?)(?:i?b)?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


class Option(click.Option):
    """An option that also answers to `hidden_names`, which no help shows: the book's -name, -cpuset, -net.

    A name may have one dash and several letters; it is looked for before the letters are taken one by one.
    """

    def __init__(self, *args: Any, hidden_names: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.hidden_names = list(hidden_names)

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """As click does, with more names."""
        shown = self.opts
        self.opts = [*shown, *self.hidden_names]
        try:
            super().add_to_parser(parser, ctx)
        finally:
            self.opts = shown


def option(*names: str, hidden_names: Sequence[str] = (), **kwargs: Any) -> Callable[[Any], Any]:
    """click.option, with hidden_names."""
    return click.option(*names, cls=Option, hidden_names=hidden_names, **kwargs)


def command(name: str, **kwargs: Any) -> Callable[[Any], click.Command]:
    """click.command.  stops_at_image: what follows the first argument is the container's, dashes and all."""
    stops = kwargs.pop("stops_at_image", False)
    settings: dict[str, Any] = {"help_option_names": ["--help"]}
    if stops:
        settings["allow_interspersed_args"] = False
    return click.command(name, context_settings=settings, **kwargs)


def no_ipv6(_ctx: click.Context, param: click.Parameter, value: object) -> object:
    """The callback of options of docker's that are about IPv6.  Raises UsageError when one is given."""
    if value:
        raise errors.UsageError(f"{param.opts[0]}: IPv6 is not supported: networks and ports are IPv4", code=125)
    return value


def size(text: str) -> int:
    """ "512m" -> bytes, as docker reads sizes: powers of 1024, no unit means bytes.  Raises UsageError."""
    found = _SIZE.fullmatch(text.strip()) if len(text) < _LONGEST else None
    if not found:
        raise errors.UsageError(f"{text!r} is no size", hint="a number and b, k, m or g: 512m")
    return int(float(found[1]) * _UNITS[found[2].lower()])


def key_values(texts: Sequence[str], what: str) -> dict[str, str]:
    """("a=b", "c") -> {"a": "b", "c": ""}: labels and the like.  Raises UsageError for an empty key."""
    found = {}
    for text in texts:
        key, _, value = text.partition("=")
        if not key:
            raise errors.UsageError(f"{what} {text!r} has no name")
        found[key] = value
    return found
