"""An ordinary user: what is different, and the namespaces in which it is root."""

from __future__ import annotations

import os

UID_VARIABLE = "MYDOCKER_ROOTLESS_UID"


def active() -> bool:
    """Whether we are in the user namespace that an ordinary user's mydocker made."""
    return UID_VARIABLE in os.environ
