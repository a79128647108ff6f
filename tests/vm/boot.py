"""Boot the virtual machine: the project as built goes in on one disk, the results come out on another.

    python3 -m tests.vm.boot test [PYTEST ARGUMENTS]   run tests/vm/inside/run, leave junit files in build/vm/results
    python3 -m tests.vm.boot shell                     a root shell on this terminal, `poweroff` to leave
    python3 -m tests.vm.boot command SHELL-TEXT        run that in place of the tests, print what the console shows

The root disk is a snapshot: nothing the machine does to it stays.  There is no network.  Needs no KVM (TCG).
VM_CGROUPS=hybrid or legacy boots it with cgroup v1.
"""

from __future__ import annotations

import fcntl
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
HERE = PROJECT / "tests" / "vm"
BUILD = PROJECT / "build" / "vm"
RESULTS = BUILD / "results"
CONSOLE = BUILD / "console.log"
DEADLINE = float(os.environ.get("VM_DEADLINE", "2400"))  # seconds for one boot with everything in it
# What the kernel's command line says for each kind of cgroups: see systemd(1).
CGROUPS = {
    "unified": "",
    "hybrid": " systemd.unified_cgroup_hierarchy=0",
    "legacy": " systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1",
}
RESULTS_SIZE = 64 << 20  # bytes
VALIDATION_TREE = os.environ.get("VALIDATION_TREE")  # the public validation suite, built: see conformance/validation
REPORTED = (0, 1)  # of pytest: every test ended, and tests/vm/report.py says how
TAIL = 120  # lines of the console that are shown when no result came back
# What the tests in there need of the checkout.
PARTS = (
    "pyoci",
    "libexec",
    "tests",
    "bundles",
    "conformance",
    "docs",
    "share",
    "pyproject.toml",
    "build/pyoci",
    "build/mydocker",
    "build/nsexec",
    "build/vm/probe",
    "build/vm/attack",
    "build/vm/conformance-probe",
)
PROGRAMS = {
    "probe": "tests/integration/probe.c",
    "conformance-probe": "conformance/probe.c",
    "attack": "tests/security/attack.c",
}
# The machine has Debian's pytest, the tests are written for that of the virtual environment.
SITE = (
    *("pytest", "_pytest", "py", "pluggy", "iniconfig", "packaging", "pygments", "sortedcontainers"),
    *("hypothesis", "_hypothesis_globals", "_hypothesis_ftz_detector", "_hypothesis_pytestplugin"),
)
LEFT_OUT = {"rootfs", ".hypothesis", "results", ".pytest_cache"}


def main(argv: list[str]) -> int:
    """See the module; the exit status."""
    what, rest = (argv[0], argv[1:]) if argv else ("test", [])
    image = _image()
    _compile_probes()
    scratch = BUILD / f"run.{os.getpid()}"
    scratch.mkdir(parents=True)
    try:
        _project_disk(scratch / "project.tar", {"pytest": rest} if what == "test" else {"shell": " ".join(rest)})
        (scratch / "results.img").touch()
        os.truncate(scratch / "results.img", RESULTS_SIZE)
        command = qemu(image, scratch, "shell" if what == "shell" else "tests")
        if what == "shell":
            return subprocess.run(command, check=False).returncode
        return _run(command, scratch / "results.img", echo=what == "command")
    finally:
        shutil.rmtree(scratch)


def _image() -> Path:
    """Where kernel, initramfs and root disk are; built when they are not.  Ends the program when that fails."""
    try:
        done = subprocess.run([HERE / "build"], stdout=subprocess.PIPE, text=True, timeout=DEADLINE, check=False)
    except subprocess.TimeoutExpired:
        sys.exit(f"the image of the virtual machine was not built within {DEADLINE:.0f} s")
    if done.returncode:
        sys.exit(f"the image of the virtual machine could not be built: tests/vm/build: exit status {done.returncode}")
    return Path(done.stdout.strip())


def qemu(image: Path, scratch: Path, service: str) -> list[str]:
    """The command: two processors, 2 GiB in two NUMA nodes, no network, the console on standard input and output."""
    drive = "if=none,format=raw,cache=unsafe"
    append = (
        "console=ttyS0 root=/dev/vda rw quiet mitigations=off nokaslr panic=-1 hugepagesz=2M hugepages=8 psi=1"
        f" systemd.show_status=false systemd.wants=pyoci-{service}.service"
        + CGROUPS[os.environ.get("VM_CGROUPS", "unified")]
    )
    return [
        *(
            "setpriv",
            "--pdeathsig",
            "KILL",
            "nice",
            "qemu-system-x86_64",
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max",
            "-smp",
            "2",
            "-m",
            "2048",
        ),
        *("-object", "memory-backend-ram,id=m0,size=1G", "-object", "memory-backend-ram,id=m1,size=1G"),
        *("-numa", "node,cpus=0,memdev=m0", "-numa", "node,cpus=1,memdev=m1"),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "mon:stdio"),
        *("-kernel", str(image / "kernel"), "-initrd", str(image / "initrd"), "-append", append),
        *("-drive", f"file={image / 'root.img'},{drive},snapshot=on,id=d0", "-device", "virtio-blk-pci,drive=d0"),
        *("-drive", f"file={scratch / 'project.tar'},{drive},readonly=on,id=d1", "-device", "virtio-blk-pci,drive=d1"),
        *("-drive", f"file={scratch / 'results.img'},{drive},id=d2", "-device", "virtio-blk-pci,drive=d2"),
        *("-object", "rng-random,id=rng0,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng0"),
    ]


def _compile_probes() -> None:
    # There is no compiler in the machine.
    for name, source in PROGRAMS.items():
        made, text = BUILD / name, PROJECT / source
        if not made.exists() or made.stat().st_mtime < text.stat().st_mtime:
            subprocess.run(["cc", "-std=gnu11", "-static", "-O1", "-o", made, text], check=True)


def _project_disk(file: Path, job: dict[str, object]) -> None:
    def chosen(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if LEFT_OUT & set(Path(info.name).parts) else info

    with tarfile.open(file, "w") as tar:
        for part in PARTS:
            if (PROJECT / part).exists():
                tar.add(PROJECT / part, part, filter=chosen)
        if VALIDATION_TREE:
            tar.add(VALIDATION_TREE, "validation-tree")
        for package in SITE:
            for path in _installed(package):
                tar.add(path, f"site/{path.name}")
        text = json.dumps(job).encode()
        info = tarfile.TarInfo("job.json")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))


def _installed(package: str) -> list[Path]:
    """A package of the interpreter that runs this, and what says of which version it is."""
    spec = importlib.util.find_spec(package)
    assert spec and spec.origin, f"{package} is not installed: run this with the python of the virtual environment"
    origin = Path(spec.origin)
    path = origin.parent if origin.name == "__init__.py" else origin
    return [path, *path.parent.glob(f"{package}-*.dist-info")]


def _run(command: list[str], results: Path, echo: bool) -> int:
    # One at a time: two machines are each less than half as fast, and there is one place for what comes back.
    with (BUILD / "boot.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another virtual machine runs: waiting for it", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(RESULTS, ignore_errors=True)
        RESULTS.mkdir()
        took = _boot(command, echo)
        status = _unpack(results)
        if status is not None and (echo or status in REPORTED):
            print(f"the virtual machine ran for {took:.0f} s; what it said is in {CONSOLE}", file=sys.stderr)
            return status if echo else 0
    late = (
        f"was stopped after {DEADLINE:.0f} s" if took >= DEADLINE else f"ended after {took:.0f} s without its results"
    )
    lines = CONSOLE.read_text(errors="replace").splitlines()[-TAIL:]
    print(*lines, f"the virtual machine {late}; all it said is in {CONSOLE}", sep="\n", file=sys.stderr)
    return 1


def _boot(command: list[str], echo: bool) -> float:
    """Seconds that the machine ran."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    timer = threading.Timer(DEADLINE, process.kill)
    timer.start()
    assert process.stdout
    with CONSOLE.open("wb") as log:
        for line in process.stdout:
            log.write(line)
            log.flush()
            if echo:
                sys.stdout.write(line.decode(errors="replace"))
                sys.stdout.flush()
    process.wait()
    timer.cancel()
    return time.monotonic() - began


def _unpack(results: Path) -> int | None:
    """How tests/vm/inside/run ended, None when the machine wrote no archive or it is not in there."""
    done = subprocess.run(["tar", "-xf", results, "-C", RESULTS], stderr=subprocess.DEVNULL, check=False)
    file = RESULTS / "status"
    return int(file.read_text()) if done.returncode == 0 and file.exists() else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
