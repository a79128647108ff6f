"""What a rule for the whole says of a value of which parts are wrong, so that every fault is told at once.

Loaded after a failure only.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from pyoci.spec_rules import Problem, Rule

    Place = tuple[str | int, ...]
    Moved = dict[Place, list[int]]  # place of an array in the copy -> the index that each entry had


def ask(rule: Rule, value: Any, found: list[Problem]) -> list[Problem]:
    """found, which is what is wrong with the parts of value, and what rule says of the other parts.

    rule may rely on every part being there and valid: what it finds before it meets a missing one does not count.
    """
    rest, moved = without(value, [parts for parts, _, _ in found])
    try:
        more = rule(rest) or []
    except (AttributeError, KeyError, TypeError, ValueError):
        return found
    known = {parts for parts, _, _ in found}
    for parts, message, hint in more:
        place = before(parts, moved)
        if place not in known:
            found.append((place, message, hint))
    return found


def without(value: Any, places: Iterable[Place]) -> tuple[Any, Moved]:
    """A copy of value in which these places are left out, or the innermost entry of an array that they are in."""
    cuts = set()
    for place in places:
        last = max((n for n, part in enumerate(place) if isinstance(part, int)), default=len(place) - 1)
        cuts.add(place[: last + 1])
    moved: Moved = {}
    return _copy(value, cuts - {()}, (), moved), moved


def _copy(value: Any, cuts: set[Place], here: Place, moved: Moved) -> Any:
    if not cuts or not isinstance(value, (dict, list)):
        return value
    below: dict[str | int, set[Place]] = {}
    for first, *rest in cuts:
        below.setdefault(first, set()).add(tuple(rest))
    if isinstance(value, dict):
        return {
            name: _copy(item, below.get(name, set()), (*here, name), moved)
            for name, item in value.items()
            if () not in below.get(name, ())
        }
    kept = [index for index in range(len(value)) if () not in below.get(index, ())]
    moved[here] = kept
    return [_copy(value[old], below.get(old, set()), (*here, new), moved) for new, old in enumerate(kept)]


def before(parts: Place, moved: Moved) -> Place:
    """The place in the value of a place in its copy."""
    found: list[str | int] = []
    for depth, part in enumerate(parts):
        kept = moved.get(parts[:depth])
        found.append(kept[part] if kept is not None and isinstance(part, int) else part)
    return tuple(found)
