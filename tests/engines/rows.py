"""Checks that are one `run --rm`: options, a shell script, and what it must print (a regular expression).

@DIR@ is a directory of the host that the containers may have; it holds `file`, which reads walnut.
"""

# ruff: noqa: E501
# (a row is a line)

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from tests.engines.lab import IMAGE, add, expect

if TYPE_CHECKING:
    from tests.engines.lab import Cli

ALL = "podman rootless docker"
ROOT = "podman docker"
PODMAN = "podman rootless"

# id, engines, options of run, script, what it prints
ROWS = [
    ("run-env", ALL, "-e A=b --env C=d", "echo $A $C", "b d"),
    ("run-user-name", ALL, "-u walnut", "id -u; id -g", "1000\n1000"),
    ("run-user-id", ALL, "-u 1234:4321", "id -u; id -g", "1234\n4321"),
    ("run-group-add", ALL, "-u 1000:1000 --group-add 3333", "id -G", "1000 3333"),
    ("run-workdir", ALL, "-w /home/walnut", "pwd", "/home/walnut"),
    ("run-hostname", ALL, "--hostname walnut", "hostname; cat /etc/hostname", "walnut\nwalnut"),
    ("run-add-host", ALL, "--add-host nut:192.0.2.77", "grep nut /etc/hosts", r"192\.0\.2\.77\s+nut"),
    ("run-dns", ALL, "--dns 192.0.2.53", "cat /etc/resolv.conf", r".*nameserver 192\.0\.2\.53.*"),
    ("read-only", ALL, "--read-only", "touch /x 2>&1; touch /dev/shm/y && echo fine", ".*Read-only file system\nfine"),
    ("read-only-tmpfs", ALL, "--read-only --tmpfs /scratch", "touch /scratch/x && ls /scratch", "x"),
    ("tmpfs-options", ALL, "--tmpfs /t:size=1m,mode=1750", "stat -c %a /t; grep ' /t ' /proc/mounts", "1750\n.*size=1024k.*"),
    ("tmpfs-mount", ALL, "--mount type=tmpfs,destination=/t", "touch /t/x; stat -f -c %T /t", "tmpfs"),
    ("volume-bind", ALL, "-v @DIR@:/v", "cat /v/file; echo new >/v/made; cat /v/made; rm /v/made", "walnut\nnew"),
    ("volume-bind-ro", ALL, "-v @DIR@:/v:ro", "cat /v/file; touch /v/x 2>&1", "walnut\n.*Read-only file system"),
    ("volume-file", ALL, "-v @DIR@/file:/etc/nut:ro", "cat /etc/nut", "walnut"),
    ("volume-mount-ro", ALL, "--mount type=bind,src=@DIR@,dst=/v,readonly", "touch /v/x 2>&1; cat /v/file", ".*only.*walnut"),
    ("volume-in-made-directory", ALL, "-v @DIR@:/not/there/yet", "cat /not/there/yet/file", "walnut"),
    ("shm-size", ALL, "--shm-size 3m", "df -m /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2", "3"),
    ("devices-default", ALL, "", "echo x >/dev/null && head -c1 /dev/zero | wc -c; ls /dev", "1\n.*full.*null.*ptmx.*random.*tty.*zero"),
    ("devices-add", ALL, "--device /dev/fuse:/dev/nut", "ls -l /dev/nut | cut -c1; exec 3<>/dev/nut && echo opened", "c\nopened"),
    ("devices-mknod-denied", ROOT, "", "(mknod /n b 7 0 && cat /n) 2>&1", ".*Operation not permitted"),
    ("devices-read-only", ROOT, "--device /dev/fuse:/dev/nut:r", "exec 3</dev/nut && echo opened; (exec 3<>/dev/nut) 2>&1", "opened\n.*not permitted"),
    ("caps-default", ALL, "", "grep CapEff /proc/self/status", "CapEff:\t0000000[0-9a-f]{9}"),
    ("caps-drop-all", ALL, "--cap-drop all", "grep -E 'Cap(Eff|Bnd)' /proc/self/status; chown 1:1 /tmp 2>&1", "(Cap...:\t0{16}\n){2}.*not permitted"),
    ("caps-add", ALL, "--cap-drop all --cap-add net_admin --cap-add chown", "grep CapEff /proc/self/status", "CapEff:\t0000000000001001"),
    ("caps-user", ALL, "-u 1000", "grep CapEff /proc/self/status", "CapEff:\t0{16}"),
    ("no-new-privileges", ALL, "--security-opt no-new-privileges", "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1"),
    ("seccomp-default", ALL, "", "grep Seccomp: /proc/self/status", "Seccomp:\t2"),
    ("seccomp-default-denies", ALL, "-u 1000", "unshare -m true 2>&1 || echo denied", ".*denied"),
    ("seccomp-unconfined", ALL, "--security-opt seccomp=unconfined", "grep Seccomp: /proc/self/status", "Seccomp:\t0"),
    ("seccomp-profile", ALL, "--security-opt seccomp=@DIR@/seccomp.json", "mkdir /x 2>&1; echo $?", "mkdir:.*: (Cross-device|Invalid cross-device) link\n1"),
    ("apparmor-unconfined", ALL, "--security-opt apparmor=unconfined", "echo fine", "fine"),
    ("ulimit-nofile", ALL, "--ulimit nofile=333:444 --ulimit nproc=1000:1000", "ulimit -n; ulimit -Hn", "333\n444"),
    ("ulimit-core", ALL, "--ulimit core=0:0 --ulimit nofile=900:900 --ulimit nproc=1000:1000", "ulimit -c", "0"),
    ("sysctl", ALL, "--sysctl kernel.msgmax=9000 --sysctl net.ipv4.ip_forward=1", "cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_forward", "9000\n1"),
    ("oom-score-adj", ALL, "--oom-score-adj 500", "cat /proc/self/oom_score_adj", "500"),
    ("pids-limit", ROOT, "--pids-limit 20", "probe forks 100", r"1[0-9]"),
    ("cpuset", ROOT, "--cpuset-cpus 0", "grep Cpus_allowed_list /proc/self/status", "Cpus_allowed_list:\t0"),
    ("proc-masked", ALL, "", "head -c1 /proc/kcore | wc -c; ls /sys/firmware | wc -l", "0\n0"),
    ("proc-sys-read-only", ALL, "", "(echo 1 >/proc/sys/kernel/domainname) 2>&1", ".*Read-only file system"),
    ("sys-read-only", ALL, "", "grep ' /sys ' /proc/mounts", r"sysfs /sys sysfs ro,.*"),
    ("pid-1", ALL, "", "echo $$; ls -d /proc/[0-9]* | wc -l", "1\n[1-5]"),
    ("init", ALL, "--init", "head -1 /proc/1/status; [ $$ != 1 ] && echo child", "Name:\t(catatonit|docker-init|podman-init|tini)\nchild"),
    ("net-none", ALL, "--network none", "ls /sys/class/net", "lo"),
    ("net-host", ALL, "--network host", "ls /sys/class/net", ".*outside0.*"),
    ("net-default", ALL, "", "ls /sys/class/net", r"(eth0\nlo|lo\ntap0)"),
    ("pid-host", ALL, "--pid host", "ls /proc/1/task | head -1; grep -c . /proc/1/cmdline", "1\n[1-9]"),
    ("uts-host", ALL, "--uts host", "hostname", "\\S+"),
    ("ipc-host", ALL, "--ipc host", "echo fine", "fine"),
    ("cgroupns-private", ROOT, "--cgroupns private", "grep -cE '(pids|^0:):/.+' /proc/self/cgroup", "0"),
    ("cgroupns-host", ROOT, "--cgroupns host", "grep -cE '(pids|^0:):/.+' /proc/self/cgroup", "[12]"),
    ("cgroup-read-only", ROOT, "", "mount | grep -c 'cgroup.*[(]ro,'", "[1-9][0-9]*"),
    ("mqueue", ALL, "", "stat -f -c %T /dev/mqueue; touch /dev/mqueue/q && ls /dev/mqueue", ".*\nq"),
    ("descriptors", ALL, "", "ls /proc/1/fd; true", "0\n1\n2"),
    ("environment", ALL, "", "env | cut -d= -f1 | sort", "(HOME|HOSTNAME|PATH|PWD|SHLVL|TERM|container|\n)*"),
    ("masked-unmask", PODMAN, "--security-opt unmask=/sys/firmware", "ls -d /sys/firmware/* | wc -l", "[1-9][0-9]*"),
    ("mask-more", PODMAN, "--security-opt mask=/etc/index.html", "wc -c </etc/index.html", "0"),
    ("unmask-all", "docker", "--security-opt systempaths=unconfined", "grep -c ' /proc/sys ' /proc/mounts", "0"),
    ("umask", PODMAN, "--umask 0077", "umask", "0077"),
    ("timezone", PODMAN, "--tz UTC", "echo fine", "fine"),
    ("rw-proc", PODMAN, "--read-only=true --read-only-tmpfs=true", "touch /run/x /tmp/y && echo fine", "fine"),
    ("systemd-mounts", PODMAN, "--systemd=always", "touch /run/x /tmp/y; grep -c ' /run/lock ' /proc/mounts; echo $container", "1\npodman"),
    ("volume-overlay", PODMAN, "-v @DIR@:/v:O", "cat /v/file; rm /v/file; ls /v/file 2>&1", "walnut\n.*No such file.*"),
    ("volume-nosuid", PODMAN, "-v @DIR@:/v:nosuid,nodev,noexec", "grep ' /v ' /proc/mounts", ".*nosuid,nodev,noexec.*"),
    ("volume-rslave", ALL, "-v @SHARED@:/v:rslave", "grep ' /v ' /proc/self/mountinfo", ".* master:.*"),
    ("volume-rshared", ROOT, "-v @SHARED@:/v:rshared", "grep ' /v ' /proc/self/mountinfo", ".* shared:.*"),
    ("userns-map", "podman", "--uidmap 0:100000:5000 --gidmap 0:100000:5000", "cat /proc/self/uid_map", r"0\s+100000\s+5000"),
    ("userns-map-caps", "podman", "--uidmap 0:100000:5000 --cap-add sys_admin", "mount -t tmpfs t /tmp && echo mounted", "mounted"),
    ("userns-volume", "podman", "--uidmap 0:100000:5000 -v @DIR@:/v", "stat -c %u /v/file; cat /v/file", "65534\nwalnut"),
    ("userns-keep-id", "rootless", "--userns=keep-id", "id -u", "4711"),
    ("userns-nomap", "rootless", "--userns=nomap", "id -u; cat /proc/self/uid_map | wc -l", "0\n[1-9]"),
    ("userns-keep-id-volume", "rootless", "--userns=keep-id -v @DIR@:/v", "touch /v/mine; stat -c %u /v/mine; rm /v/mine", "4711"),
    ("rootless-maps", "rootless", "", "cat /proc/self/uid_map", r"0\s+4711\s+1\n\s+1\s+200000\s+65536"),
    ("rootless-setgroups", "rootless", "--group-add 7", "cat /proc/self/setgroups; id -G", "allow\n.*7"),
    ("rootless-chown", "rootless", "", "touch /x; chown 1000:1000 /x; stat -c %u:%g /x", "1000:1000"),
    ("rootless-no-mknod", "rootless", "--cap-add mknod", "mknod /n b 7 0 2>&1", ".*Operation not permitted"),
    ("rootless-privileged", "rootless", "--privileged", "mount -t tmpfs t /tmp && echo mounted", "mounted"),
    ("rootless-host-all", "rootless", "--net host --ipc host --uts host --pid host", "echo fine", "fine"),
    ("privileged", "podman", "--privileged", "mount -t tmpfs t /tmp && ls /dev/net /dev/fuse", ".*tun.*"),
]  # fmt: skip

# Options, command, exit code and what the message must say.
FAILURES = [
    ("run-127-name", ALL, "", "nosuch", 127, "nosuch.*not found in \\$PATH"),
    ("run-127-path", ALL, "", "/bin/nosuch", 127, "/bin/nosuch.*no such file or directory"),
    ("run-126-not-executable", ALL, "", "/etc/notexec", 126, "permission denied"),
    ("run-126-directory", ALL, "", "/etc", 126, "(permission denied|is a directory)"),
    ("run-125", ALL, "--mount type=bind,src=/nosuch,dst=/v", "true", 125, "/nosuch"),
    ("run-exec-format", ALL, "", "/bin/badformat", 1, "exec format error"),
    ("run-bad-workdir", "podman rootless", "-w /etc/notexec", "true", 126, "not a directory"),
]


def make_row(ident: str, engines: str, options: str, script: str, out: str) -> None:
    def function(engine: Cli) -> None:
        real = options.replace("@DIR@", str(engine.shared)).replace("@SHARED@", str(engine.work / "propagated"))
        result = engine.sh(real, script, code=None)
        expect(out, result.out if result.out or not out else result.err)

    add(ident, engines, function, quick=ident in QUICK)


def make_failure(ident: str, engines: str, options: str, command: str, code: int, message: str) -> None:
    def function(engine: Cli) -> None:
        result = engine.run(*shlex.split(options), IMAGE, command, code=code)
        expect(f"(?i).*{message}.*", result.err)

    add(ident, engines, function, quick=ident in QUICK)


QUICK = """run-env run-user-name read-only-tmpfs volume-bind-ro caps-add seccomp-profile pids-limit proc-masked init
userns-map userns-keep-id rootless-maps run-127-name run-126-not-executable run-125 descriptors net-default""".split()

for row in ROWS:
    make_row(*row)
for failure in FAILURES:
    make_failure(*failure)
