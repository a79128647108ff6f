"""Names for containers that were given none."""

from __future__ import annotations

import secrets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

_HOW = (
    "airy amber bold brave bright brisk calm candid clear clever cosy curious deft eager early fair fleet fond frank "
    "fresh gentle glad golden grand green happy hardy hazel honest humble jolly keen kind lively loyal lucid lucky "
    "mellow merry mild modest neat nimble noble patient plain prompt proud quick quiet rapid ready rosy round royal "
    "rustic silent silver simple sleek smart snug sober solid spry steady still sturdy subtle sunny swift tidy "
    "tranquil trusty upright vivid warm wise witty young zesty"
).split()
_WHAT = (
    "acorn alder almond apple apricot ash aspen beech berry birch brook cedar cherry chestnut clover cypress dale "
    "elder elm fern fig fir garden grove hawthorn hazelnut heath hickory holly ivy juniper larch laurel leaf lemon "
    "lime linden maple meadow moss myrtle nutmeg oak olive orchard palm peach pear pecan pine plum poplar quince reed "
    "river rose rowan sage sequoia sorrel spruce sycamore thistle thyme tulip vale vine walnut willow yarrow yew"
).split()


def choose(taken: Collection[str]) -> str:
    """A name that is not taken."""
    while True:
        name = f"{secrets.choice(_HOW)}_{secrets.choice(_WHAT)}"
        if name in taken:
            name += secrets.token_hex(2)
        if name not in taken:
            return name
