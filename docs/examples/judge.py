"""A judge: runs a shell script that nobody trusts, with limits, and tells how it ended.

judge.py ROOTFS SCRIPT [SECONDS]      ROOTFS: a directory with /bin/sh; stdin is the script's
"""

from __future__ import annotations

import os
import sys
import tempfile

import pyoci


def judge(rootfs: str, script: str, seconds: float) -> tuple[str, bytes]:
    """The verdict ("exit N", "too slow", "too much memory") and what was printed, at most a MiB of it."""
    config = pyoci.default_config()  # what `pyoci spec` writes: namespaces, few capabilities, a read-only root
    config["root"]["path"] = rootfs
    config["process"].update(terminal=False, args=["/bin/sh", "-c", script], user={"uid": 65534, "gid": 65534})
    config["process"]["rlimits"] = [{"type": "RLIMIT_FSIZE", "soft": 1 << 20, "hard": 1 << 20}]
    config["linux"]["resources"] = {"memory": {"limit": 64 << 20, "swap": 64 << 20}, "pids": {"limit": 32}}
    with tempfile.TemporaryFile() as output:  # not a pipe: it would have to be read meanwhile
        try:
            with pyoci.Container.create(
                f"judge-{os.getpid()}", config=config, stdout=output.fileno(), stderr=output.fileno()
            ) as box:  # leaving the block ends and deletes it, whatever it is doing
                box.start()
                status = box.wait(seconds)
                memory = box.oom_killed()
        except TimeoutError:
            return "too slow", b""
        output.seek(0)
        return "too much memory" if memory else f"exit {status}", output.read(1 << 20)


def main() -> int:
    rootfs, script = sys.argv[1:3]
    try:
        verdict, printed = judge(os.path.abspath(rootfs), script, float(sys.argv[3]) if len(sys.argv) > 3 else 2.0)
    except pyoci.Error as error:  # where: the place in the config; hint: what to do about it
        print(f"judge: {error}", error.hint, file=sys.stderr)
        return 1
    sys.stdout.buffer.write(printed)
    print(verdict, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
