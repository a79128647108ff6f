"""What each row's runtime lacks when it is crippled, and how that is done.

An operation is one line of words:
  drop POINTER            take a property out of the config (or exec's process.json); * is every entry, -1 the last
  set POINTER JSON        give it another value; {id} is the container's id
  unoption WORD...        take options out of every mount
  unnamespace TYPE        do not make that namespace
  swap                    swap the last two mounts
  before SHELL            let the program begin with a shell command
  hooks KIND SHELL        put a shell command around the hooks of a kind: "$0" "$@" is the hook
  stale                   use the first seccomp profile for all containers
  refuse TEXT             fail when config.json has this text; refuse-missing POINTER: when a property is not there
  swallow VERB            exit 0 whatever happens; fail VERB; noop VERB: do not even do it; mute VERB: say nothing
  options VERB WORD...    add options; strip VERB WORD COUNT: take an option and what follows out
  output VERB drop|set .. edit the JSON that a verb prints
  eager                   create starts the program; late: start makes the container anew, from the config of then
  once                    an id is good for one create
  leak                    a cgroup stays after delete, and after a create that fails
  chown-rootfs, chown-cgroup  give a file of the root file system, or the cgroup, to whom it does not belong
  nsenter                 exec does nothing but join the namespaces
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from conformance import machine

# row -> operations, each alone must make the row fail; "" with a reason for a row that cannot be proven so
LACKS: dict[str, list[str]] = {
    **{
        row: ["swallow create"] for row in "L01 L02 L03 L06 L24 L29 P07 D02 N02 N04 C02 C20 C21 S01 S07 S08 H03".split()
    },
    "L04": ["eager", "drop /linux/resources/pids", "drop /mounts/-1"],
    "L05": ["refuse-missing /process", "swallow start"],
    "L07": ["late"],
    "L08": ["swallow start"],
    "L09": ["drop /hooks/poststart", "drop /hooks/startContainer"],
    "L10": ["swallow kill", "noop kill"],
    "L11": ["options delete --force", "swallow delete"],
    "L12": ["leak"],
    "L13": ["once"],
    "L14": ["swallow state", "output state drop /id"],
    "L15": [
        "output state drop /annotations",
        'output state set /bundle "bundle"',
        'output state set /status "created"',
    ],
    "L16": ["noop pause", 'output state set /status "frozen"'],
    "L17": ['hooks createRuntime sed -E \'s/"pid": ?[0-9]+/"pid":1/\' | "$0" "$@"'],
    "L18": ['hooks prestart "$0" "$@"; exit 0', "drop /hooks/startContainer", "drop /hooks/poststop"],
    "L19": ['hooks poststart "$0" "$@"; exit 0', "drop /hooks/poststop"],
    "L20": ["drop /hooks/poststop/1", "mute delete"],
    "L21": ["leak"],
    "L22": ["refuse CAP_NO_SUCH"],
    "L23": ["refuse x-unknown"],
    "L25": ["options run --preserve-fds 60"],
    "L26": ["strip run --preserve-fds 2"],
    "L27": ["before rm -f /dev/stdin"],
    "L28": ["drop /mounts/3", "drop /mounts/4"],
    "P01": ["before exec 0</dev/null"],
    "P02": ["drop /process/consoleSize"],
    "P03": ['set /process/cwd "/"'],
    "P04": ['set /process/env ["PATH=/bin", "CALLER_SECRET=1"]'],
    "P05": ['set /process/env ["PATH=/bin"]', "swallow create"],
    "P06": ["drop /process/rlimits", "drop /process/rlimits/3"],
    "P08": ["drop /process/apparmorProfile"],
    "P14": ["drop /process/selinuxLabel"],
    "M21": ["drop /linux/mountLabel"],
    "P09": ["set /process/capabilities {}", "drop /process/capabilities/ambient"],
    "P10": ["refuse CAP_NO_SUCH"],
    "P11": ["drop /process/noNewPrivileges", "set /process/noNewPrivileges true"],
    "P12": ["drop /process/oomScoreAdj", "set /process/oomScoreAdj 500"],
    "P13": ["drop /process/scheduler", "set /process/scheduler/nice 0", "drop /process/scheduler/flags"],
    "P15": ["drop /process/ioPriority"],
    "P16": ["drop /process/execCPUAffinity"],
    "P17": ['set /process/user {"uid": 0, "gid": 0}', "drop /process/user/additionalGids"],
    "P18": ["set /process/user/umask 18", "drop /process/user/umask"],
    "P19": ["drop /hostname"],
    "P20": ["drop /domainname"],
    "P21": ["options exec --user 0:0", "nsenter"],
    "M01": ['set /root/path "rootfs"'],
    "M02": ["drop /root/readonly"],
    "M03": ["swap"],
    "M04": ["drop /mounts/-1"],
    "M05": ["drop /mounts/-1", "drop /mounts/-2"],
    "M06": [
        f"unoption {word}" for word in "ro nosuid nodev noexec noatime nodiratime sync dirsync rbind remount".split()
    ],
    "M07": ["refuse silent", "unoption lazytime"],
    "M08": [f"unoption {word}" for word in "private rprivate shared rshared unbindable runbindable".split()],
    "M09": ["unoption nosymfollow"],
    "M10": [f"unoption {word}" for word in "rro rnosuid rnodev rnoexec rnoatime rrw rsuid rdev rexec".split()],
    "M11": ["unoption rnosymfollow"],
    "M12": ["unoption idmap", "unoption ridmap", "swallow create"],
    "M13": ["refuse nomand"],
    "M14": ["unoption tmpcopyup"],
    "M15": ["unoption size=64k", "swallow create"],
    "M16": ["refuse _netdev", "unoption X-mount.mode=0750"],
    "M17": ["drop /mounts/-1", "unnamespace cgroup"],
    "M18": ["drop /linux/rootfsPropagation"],
    "M19": ["drop /linux/maskedPaths", "swallow create"],
    "M20": ["drop /linux/readonlyPaths", "swallow create"],
    "M22": ["refuse uidMappings", "unoption ro"],
    "M23": ["swallow create", "drop /mounts/-1"],
    "M24": ["drop /mounts/1/options", "drop /mounts/-1"],
    "N01": [f"unnamespace {kind}" for kind in "time cgroup ipc network".split()],
    "N03": ["unnamespace ipc"],
    "N05": ["drop /linux/uidMappings/1"],
    "N06": ["chown-rootfs"],
    "N07": ["drop /linux/timeOffsets"],
    "N08": ["fail run"],
    "N09": ["unnamespace user"],
    "D01": [f"drop /linux/devices/{number}" for number in range(4)],
    "D03": ["drop /linux/devices"],
    "D04": ["before rm /dev/zero", "before rm /dev/ptmx"],
    "D05": ['set /linux/resources/devices [{"allow": true, "access": "rwm"}]', "drop /linux/resources/devices/-1"],
    "D06": ['set /linux/resources/devices [{"allow": true, "access": "rwm"}]'],
    **{row: ["drop /linux/netDevices"] for row in "X01 X02 X03 X04 X05 X06".split()},
    "C01": ['set /linux/cgroupsPath "/{id}-elsewhere"'],
    "C25": ["drop /annotations"],
    "C03": ['set /linux/cgroupsPath "/{id}-elsewhere"'],
    "C04": ["chown-cgroup"],
    "C05": ["drop /linux/resources/memory/limit", "drop /linux/resources/memory/swap"],
    "C06": ["drop /linux/resources/memory/kernelTCP"],
    "C07": ["drop /linux/resources/memory/swappiness", "drop /linux/resources/memory/disableOOMKiller"],
    "C08": ["noop update", "swallow update"],
    "C09": [f"drop /linux/resources/cpu/{name}" for name in ("shares", "quota", "period")],
    "C10": ["drop /linux/resources/cpu/burst"],
    "C11": ["drop /linux/resources/cpu/realtimeRuntime"],
    "C12": ["drop /linux/resources/cpu/cpus"],
    "C13": ["drop /linux/resources/cpu/idle"],
    "C14": ["drop /linux/resources/blockIO/weight"],
    "C15": ["drop /linux/resources/blockIO/leafWeight"],
    "C16": [f"drop /linux/resources/blockIO/throttle{kind}Device" for kind in ("ReadBps", "WriteIOPS")],
    "C17": ["drop /linux/resources/hugepageLimits"],
    "C18": ["drop /linux/resources/network/classID", "drop /linux/resources/network/priorities"],
    "C19": ["drop /linux/resources/pids"],
    "C22": ["drop /linux/resources/memory"],
    "C23": ["noop update"],
    "C24": ["noop pause", "strip exec --cgroup 2"],
    "C26": ["noop update"],
    "S02": ["swallow create", "drop /linux/seccomp/syscalls/0/errnoRet"],
    "S03": ["refuse LOONGARCH64", 'set /linux/seccomp/architectures ["SCMP_ARCH_X86_64"]'],
    "S04": ["refuse WAIT_KILLABLE", "swallow create"],
    "S05": ["drop /linux/seccomp/syscalls/0/args", "swallow create"],
    "S06": ["drop /linux/seccomp", 'set /linux/seccomp/listenerMetadata "other"', "swallow create ; swallow start"],
    "S09": ["set /linux/seccomp/defaultErrnoRet 38"],
    "S10": ["nsenter"],
    "S11": ["stale"],
    "Z01": ["drop /linux/sysctl"],
    "Z02": ["drop /linux/personality"],
    "Z03": ["drop /linux/personality/flags"],
    "Z04": ["drop /linux/memoryPolicy", "drop /linux/memoryPolicy/flags"],
    "Z05": ["drop /linux/intelRdt"],
    "Z06": ["drop /linux/intelRdt/memBwSchema"],
    "Z07": ["drop /linux/intelRdt/closID"],
    "Z08": ['set /linux/intelRdt/closID "/"'],
    "Z09": ["drop /linux/intelRdt"],
    "H01": ["drop /hooks/startContainer", "drop /hooks/prestart/1", "drop /hooks/poststop"],
    "H02": ['hooks poststart sed s/running/created/ | "$0" "$@"', 'hooks poststop "$0" "$@" </dev/null'],
    "H04": ["swallow create", "drop /hooks/createRuntime/0/timeout"],
    "H05": ["drop /hooks/createRuntime/0/env", 'set /hooks/createRuntime/0/args/0 "probe"'],
    "H06": ["mute create"],
    "A01": ["drop /annotations", "swallow create"],
    "A02": ["drop /annotations"],
    "F01": ["output features drop /ociVersionMin", 'output features set /ociVersionMax "2.0.0"'],
    "F02": ["output features drop /hooks/0", "output features drop /mountOptions/0"],
    "F03": ["output features drop /linux/namespaces/0", "output features drop /linux/capabilities"],
    "F04": ["output features drop /linux/cgroup/rdma"],
    "F05": ["output features drop /linux/seccomp/operators"],
    "F06": ["output features drop /linux/apparmor"],
    "F07": ["output features drop /linux/memoryPolicy/modes"],
    "F08": ["output features drop /linux/intelRdt/monitoring"],
    "F09": ["output features drop /linux/netDevices"],
    "F10": ["output features drop /potentiallyUnsafeConfigAnnotations"],
}


class Verb:
    """One call of the runtime."""

    def __init__(self, argv: list[str]) -> None:
        names = {
            "create",
            "start",
            "state",
            "kill",
            "delete",
            "run",
            "exec",
            "pause",
            "resume",
            "update",
            "features",
            "plan",
        }
        places = [n for n, word in enumerate(argv) if word in names]
        self.at = places[0] if places else len(argv)
        self.argv = argv
        self.name = argv[self.at] if places else ""
        self.id = argv[-1] if argv else ""

    def value(self, option: str) -> str:
        """What follows an option, or ""."""
        return self.argv[self.argv.index(option) + 1] if option in self.argv[:-1] else ""

    @property
    def bundle(self) -> Path:
        return Path(self.id if self.name == "plan" else self.value("--bundle") or ".")

    @property
    def memory(self) -> Path:
        """A directory for what must be remembered from one call to the next."""
        return Path(self.value("--root") + ".crippled")


# -- editing JSON ----------------------------------------------------------------------------


def edit(document: Any, pointer: str, value: Any = None) -> None:
    """Take what is at pointer out of the document, or give it the value; nothing when it is not there.

    A property is added to an object that is there.
    """
    *parents, last = pointer.strip("/").split("/")
    place = document
    try:
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place[part]
        key = int(last) if isinstance(place, list) else last
        if value is not None:
            place[key] = value
        else:
            del place[key]
    except (KeyError, IndexError, TypeError, ValueError):
        return


def _before(config: dict[str, Any], shell: str) -> None:
    process = config.get("process") or {}
    if process.get("args"):
        process["args"] = ["/bin/sh", "-c", f'{shell}; exec "$@"', "sh", *process["args"]]


def _hooks(config: dict[str, Any], kind: str, shell: str) -> None:
    for hook in (config.get("hooks") or {}).get(kind) or ():
        argv = hook.get("args") or [hook["path"]]
        hook["args"] = ["sh", "-c", shell, hook["path"], *argv[1:]]
        hook["path"] = "/bin/sh"


def _stale(config: dict[str, Any], memory: Path) -> None:
    first = memory / "seccomp"
    if first.exists():
        config["linux"]["seccomp"] = json.loads(first.read_text())
    else:
        memory.mkdir(exist_ok=True)
        first.write_text(json.dumps(config["linux"].get("seccomp")))


def change(config: dict[str, Any], op: str, verb: Verb) -> None:
    """Apply an operation to the config."""
    name, _, rest = op.partition(" ")
    mounts = config.get("mounts")
    mounts = mounts if isinstance(mounts, list) else []
    if name == "drop":
        edit(config, rest)
    elif name == "set":
        pointer, _, text = rest.partition(" ")
        edit(config, pointer, json.loads(text.replace("{id}", verb.id)))
    elif name == "unoption":
        for mount in mounts:
            mount["options"] = [word for word in mount.get("options") or () if word not in rest.split()]
    elif name == "unnamespace":
        config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] != rest]
    elif name == "swap" and len(mounts) > 1:
        mounts[-2:] = reversed(mounts[-2:])
    elif name == "before":
        _before(config, rest)
    elif name == "hooks":
        _hooks(config, *rest.split(" ", 1))
    elif name == "stale":
        _stale(config, verb.memory)


def edited(ops: list[str], verb: Verb) -> None:
    """Apply the operations to config.json in its place, and to exec's process.json."""
    for path, wrap in ((verb.bundle / "config.json", False), (Path(verb.value("--process") or "/nosuch"), True)):
        try:
            document = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue
        config = {"process": document} if wrap else document
        if verb.name in ("create", "run", "plan") or wrap:
            for op in ops:
                change(config, op, verb)
            path.write_text(json.dumps(document))


# -- doing -----------------------------------------------------------------------------------


def refused(ops: list[str], verb: Verb) -> bool:
    """Whether an operation makes this call fail."""
    file = verb.bundle / "config.json"
    text = file.read_text(errors="replace") if verb.name in ("create", "run") and file.exists() else ""
    for op in ops:
        name, _, rest = op.partition(" ")
        if (name == "refuse" and rest in text) or (name == "fail" and rest == verb.name):
            return True
        if name == "refuse-missing" and text and rest.strip("/") not in json.loads(text):
            return True
        if name == "once" and verb.name == "create":
            verb.memory.mkdir(exist_ok=True)
            used = verb.memory / verb.id
            if used.exists():
                return True
            used.touch()
    return False


def arguments(ops: list[str], verb: Verb) -> list[str]:
    """The runtime's argv with options added or taken away."""
    argv = list(verb.argv)
    for op in ops:
        name, *rest = op.split()
        if rest and rest[0] == verb.name:
            if name == "options":
                argv[verb.at + 1 : verb.at + 1] = rest[1:]
            elif name == "strip" and rest[1] in argv:
                at = argv.index(rest[1])
                del argv[at : at + int(rest[2])]
    return argv


def enter_only(verb: Verb) -> list[str]:
    """exec without the runtime: nsenter(1), which gives the process nothing but namespaces and root."""
    at = verb.at + 1
    shown = subprocess.run([*verb.argv[: verb.at], "state", verb.argv[at]], capture_output=True, check=True)
    pid = str(json.loads(shown.stdout)["pid"])
    return ["nsenter", "-t", pid, "-m", "-u", "-i", "-n", "-p", f"--root=/proc/{pid}/root", *verb.argv[at + 1 :]]


def late(verb: Verb) -> None:
    """Remember at create where the bundle and the output are; make the container anew at start."""
    file = verb.memory / verb.id
    if verb.name == "create":
        verb.memory.mkdir(exist_ok=True)
        file.write_text("\n".join([str(verb.bundle), os.readlink("/proc/self/fd/1")]))
    elif verb.name == "start":
        bundle, output = file.read_text().split("\n")
        base = verb.argv[: verb.at]
        subprocess.run([*base, "delete", "--force", verb.id], check=True)
        with open(output, "ab") as out:
            subprocess.run(
                [*base, "create", "--bundle", bundle, verb.id], check=True, stdout=out, stdin=subprocess.DEVNULL
            )


def leak(code: int, verb: Verb) -> None:
    """Leave a cgroup behind."""
    top = machine.controller("pids")
    if top and (verb.name == "delete" or (verb.name == "create" and code != 0)):
        (top / verb.id).mkdir(exist_ok=True)


def printed(ops: list[str], verb: Verb, text: str) -> str:
    """What the verb printed, edited."""
    for op in ops:
        name, _, rest = op.partition(" ")
        words = rest.split(" ", 3)
        if name == "output" and words[0] == verb.name:
            try:
                document = json.loads(text)
            except ValueError:
                return text
            edit(document, words[2], json.loads(words[3]) if words[1] == "set" else None)
            text = json.dumps(document)
    return text


def main(ops: list[str], argv: list[str]) -> int:
    """Do one call of the runtime, crippled; returns its exit status."""
    verb = Verb(argv)
    if refused(ops, verb):
        return 1
    if f"noop {verb.name}" in ops:
        return 0
    if "late" in ops:
        late(verb)
    if "chown-rootfs" in ops and verb.name in ("create", "run"):
        os.chown(verb.bundle / "rootfs/etc/passwd", 100000, 100000)
    edited(ops, verb)
    command = enter_only(verb) if "nsenter" in ops and verb.name == "exec" else arguments(ops, verb)
    capture = any(op.startswith(f"output {verb.name} ") for op in ops)
    done = subprocess.run(
        command,
        check=False,
        close_fds=False,
        text=True,
        stdout=subprocess.PIPE if capture else None,
        stderr=subprocess.DEVNULL if f"mute {verb.name}" in ops else None,
    )
    if capture:
        sys.stdout.write(printed(ops, verb, done.stdout))
    if "leak" in ops:
        leak(done.returncode, verb)
    if "eager" in ops and verb.name == "create" and done.returncode == 0:
        subprocess.run([*argv[: verb.at], "start", verb.id], check=False)
    if "chown-cgroup" in ops and verb.name == "create":
        owner = 0 if machine.unified() else 100000  # what it should not be
        os.chown(f"{machine.controller('pids')}/{verb.id}", owner, owner)
    return 0 if f"swallow {verb.name}" in ops else done.returncode
