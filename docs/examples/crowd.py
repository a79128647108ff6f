"""Many containers at a time from asyncio: each runs a command and is gone afterwards.

crowd.py ROOTFS COUNT COMMAND...      prints how many ended with 0
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import pyoci


async def run(number: int, config: dict[str, Any], gate: asyncio.Semaphore) -> int:
    """The exit status of one.  Methods block for a few milliseconds, so they go to threads; waiting needs none."""
    async with gate:
        box = await asyncio.to_thread(pyoci.Container.create, f"crowd-{os.getpid()}-{number}", config=config)
        try:
            await asyncio.to_thread(box.start)
            return await box.wait_async()
        finally:
            await asyncio.to_thread(box.delete, force=True)
            box.close()


async def crowd(rootfs: str, count: int, command: list[str]) -> int:
    config = pyoci.default_config()
    config["root"]["path"] = rootfs
    config["process"].update(terminal=False, args=command)
    config["process"]["rlimits"] = []
    gate = asyncio.Semaphore(os.cpu_count() or 1)
    statuses = await asyncio.gather(*(run(number, config, gate) for number in range(count)))
    return statuses.count(0)


if __name__ == "__main__":
    print(asyncio.run(crowd(os.path.abspath(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])))
