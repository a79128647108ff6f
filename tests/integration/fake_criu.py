#!/usr/bin/python3
"""NOT criu: plays its part for the tests, on machines where criu cannot work.

It speaks criu's RPC (`swrk FD`) with the messages that come with criu (pycriu), writes down what it was asked for
($FAKE_CRIU, one JSON line for each request), ends or spares the process tree at dump, and makes a sleeping process
at restore, as a sibling of itself and in the cgroups it was told, after it has asked to set up the namespaces.
$FAKE_CRIU_FAIL: the request that fails; $FAKE_CRIU_UNFIT: `check` says that nothing works; $FAKE_CRIU_TERMINAL: the
restored program has a terminal.
"""

import ctypes
import json
import os
import pty
import signal
import socket
import sys

CLONE_PARENT, SYS_CLONE = 0x8000, {"x86_64": 56, "aarch64": 220}


class Client:
    """Who asks."""

    def __init__(self, fd: int) -> None:
        from google.protobuf import json_format
        from pycriu import rpc_pb2

        self.rpc = rpc_pb2
        self.sock = socket.socket(fileno=fd)
        request = self.rpc.criu_req()
        request.ParseFromString(self.sock.recv(1 << 16))
        self.kind, self.opts = request.type, request.opts
        self.name = {rpc_pb2.DUMP: "dump", rpc_pb2.PRE_DUMP: "pre-dump", rpc_pb2.RESTORE: "restore"}[request.type]
        self.record = {"type": self.name, **json_format.MessageToDict(request.opts, preserving_proto_field_name=True)}

    def place(self, fd: int) -> str:
        """A directory of the asker."""
        return os.readlink(f"/proc/{os.getppid()}/fd/{fd}")

    def notify(self, script: str, pid: int, fds: tuple[int, ...] = ()) -> bool:
        """Whether the asker is content."""
        message = self.rpc.criu_resp(type=self.rpc.NOTIFY, success=True)
        message.notify.script, message.notify.pid = script, pid
        socket.send_fds(self.sock, [message.SerializeToString()], fds)
        answer = self.rpc.criu_req()
        answer.ParseFromString(self.sock.recv(1 << 16))
        return bool(answer.notify_success)

    def answer(self, success: bool, pid: int = 0) -> None:
        message = self.rpc.criu_resp(type=self.kind, success=success)
        if pid:
            message.restore.pid = pid
        self.sock.send(message.SerializeToString())


def dump(client: Client) -> None:
    with open(f"{client.place(client.opts.images_dir_fd)}/pages-1.img", "w") as file:
        file.write("memory")
    if client.name == "dump" and not client.opts.leave_running:
        os.kill(client.opts.pid, signal.SIGKILL)
    client.notify("status-ready", 0)
    client.answer(True)


def enter(client: Client, pid: int) -> None:
    """Put the process into the cgroups of cg_root."""
    for root in client.opts.cg_root:
        mount = "systemd" if root.ctrl == "name=systemd" else root.ctrl
        with open(f"/sys/fs/cgroup/{mount}/{root.path}/cgroup.procs", "w") as file:
            file.write(str(pid))


def restore(client: Client) -> None:
    with open("/proc/self/mountinfo") as file:
        assert client.opts.root in [line.split()[4] for line in file], "criu wants a mount point"
    terminal = pty.openpty() if os.environ.get("FAKE_CRIU_TERMINAL") else ()
    pid = ctypes.CDLL(None).syscall(SYS_CLONE[os.uname().machine], CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os.write(terminal[1] if terminal else 1, b"goes on\n")
        os.execv("/bin/sleep", ["sleep", os.environ.get("FAKE_CRIU_SLEEP", "100")])
    enter(client, pid)
    content = client.notify("pre-restore", 0) and client.notify("setup-namespaces", pid)
    if content and terminal:
        content = client.notify("orphan-pts-master", pid, terminal[:1])
    if not content or not client.notify("post-restore", pid):
        os.kill(pid, signal.SIGKILL)
        client.answer(False)
        sys.exit(1)
    client.answer(True, pid)


def main() -> None:
    if sys.argv[1] == "check":
        if os.environ.get("FAKE_CRIU_UNFIT"):
            sys.exit("Error (criu/vdso.c:613): vdso: no luck")
        return
    assert sys.argv[1] == "swrk"
    client = Client(int(sys.argv[2]))
    with open(os.environ["FAKE_CRIU"], "a") as file:
        file.write(json.dumps(client.record) + "\n")
    if os.environ.get("FAKE_CRIU_FAIL") == client.name:
        with open(f"{client.place(client.opts.work_dir_fd)}/{client.opts.log_file}", "w") as file:
            file.write("(00.001) Info\n(00.002) Error (criu/x.c:1): cannot do that\n(00.003) more\n")
        client.answer(False)
        sys.exit(1)
    {"dump": dump, "pre-dump": dump, "restore": restore}[client.name](client)


main()
