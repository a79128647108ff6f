"""Other device rules for a cgroup of version 1 that has some already: only the difference is written.

Whoever writes the whole list begins with "a", all denied or all allowed.  For a moment that holds alone; and the
kernel refuses it (EINVAL) where there are cgroups below.  devices.list shows the exceptions of a cgroup that denies
all others; of one that allows all it shows EVERYTHING, whatever the exceptions.  Pure.
"""

from __future__ import annotations

from pyoci import errors
from pyoci.plan import devfilter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.plan.devfilter import Key, Rule

    Line = tuple[str, str, str]  # file, text, where

ALLOW, DENY = "devices.allow", "devices.deny"
EVERYTHING = "a *:* rwm"
NOTHING = (0, "")


def lines(ordered: list[Rule], content: str, below: bool, where: str) -> tuple[list[Line], list[Line]]:
    """What to write, in order, and what undoes it, all of it or a part.

    content: str, devices.list.  below: bool, there are cgroups below.  where: str, JSON pointer of the list.
    Raises errors.InvalidConfig as devfilter.exceptions, errors.SetupError for what the kernel refuses.
    """
    default, table = devfilter.exceptions(ordered)
    everything = content == EVERYTHING
    if not default and not everything:
        return _difference(table, listed(content))
    if below and default != everything:
        raise errors.SetupError(
            "a cgroup with others below cannot change between all devices denied and all allowed",
            where=where,
            hint="remove the cgroups below, or leave the devices out",
        )
    whole = devfilter.lines(ordered)
    if default and everything:
        # Exceptions there were are not known: those below keep them, and what is denied now stays so, whatever fails.
        return whole[1:] if below else whole, []
    if everything:
        return whole, [(ALLOW, "a", "")]
    return whole, [(DENY, "a", ""), *((ALLOW, text, "") for text in content.split("\n") if text)]


def _difference(wanted: dict[Key, tuple[int, str]], old: dict[Key, int]) -> tuple[list[Line], list[Line]]:
    """First what is more, then what is less: what both allow is allowed all the time."""
    more, less = [], []
    for key in {**old, **wanted}:
        had, (access, where) = old.get(key, 0), wanted.get(key, NOTHING)
        if access & ~had:
            more.append((ALLOW, devfilter.line(*key, access & ~had), where))
        if had & ~access:
            less.append((DENY, devfilter.line(*key, had & ~access), where))
    # a line names only what it changes: in the other file it takes that back, or does nothing if it was not written
    undo = [(ALLOW, text, "") for _, text, _ in less] + [(DENY, text, "") for _, text, _ in more]
    return more + less, undo


def listed(content: str) -> dict[Key, int]:
    """The exceptions in devices.list, as devfilter.line() writes them: device -> access."""
    found = {}
    for text in content.split("\n"):
        kind, _, rest = text.partition(" ")
        numbers, _, letters = rest.partition(" ")
        if letters:
            major, minor = (devfilter.ANY if n == "*" else int(n) for n in numbers.split(":"))
            found[kind, major, minor] = sum(devfilter.ACCESS[letter] for letter in letters)
    return found
