"""What containers there are."""

from __future__ import annotations

from pyoci import errors, kernel
from pyoci.host import state as states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builtins import list as List  # noqa: N812
    from typing import Any

__all__ = ["ids", "list"]


def list(root: str | None = None) -> List[dict[str, Any]]:
    """The states of all containers under root, by id; `owner` is the user's name.

    One whose state.json cannot be read has the status "damaged": it can only be deleted, with force.
    Raises errors.SetupError.
    """
    absolute = states.absolute(root)
    found = []
    for id in states.ids(absolute):
        try:
            with states.Directory.open(absolute, id) as directory:
                found.append(_listed(directory))
        except errors.NotFound:  # deleted meanwhile
            continue
    return found


def ids(root: str | None = None) -> List[str]:
    """The ids of all containers under root, sorted.  Raises errors.SetupError."""
    return states.ids(states.absolute(root))


def _listed(directory: states.Directory) -> dict[str, Any]:
    import pwd

    uid = kernel.fstat(directory.fd).st_uid
    try:
        owner = pwd.getpwuid(uid).pw_name
    except KeyError:
        owner = f"#{uid}"
    try:
        state = directory.document(directory.load())
    except errors.WrongState:
        state = directory.document({}, "damaged")
    return {**state, "owner": owner}
