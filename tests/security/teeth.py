# ruff: noqa: E501 - the edits are lines of other files
"""`make test-teeth`: every defence is taken out once, in a copy of the tree, and its test must then fail.

A test that passes with the defence taken out proves nothing.  Each Tooth names a defence, the edits that remove it
and the tests that notice; a table is printed, and the exit status is 1 when a removal goes unnoticed, when an edit
no longer fits the source (the defence has moved: move the tooth), or when a test fails without any edit.

    python3 -m tests.security.teeth [WORD...]     only the teeth with one of the words in their name
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parents[2]
PARTS = (
    "libexec",
    "pyoci",
    "tests",
    "bundles",
    "pyproject.toml",
    "Makefile",
    "hatch_build.py",
    "bench",
    "conformance",
    "docs",
)
CFLAGS = ["-std=gnu11", "-O1", "-w", '-DPYOCI_PYTHON="/usr/bin/python3"']
ATTEMPTS = 3  # an attack is a race at times
TIMEOUT = 300.0  # seconds one tooth may take


class Tooth(NamedTuple):
    """A defence: its class in SECURITY, its name, the edits (file, text, replacement) and the tests that notice."""

    kind: str
    name: str
    edits: tuple[tuple[str, str, str], ...]
    tests: tuple[str, ...]


def tooth(kind: str, name: str, tests: str, *edits: tuple[str, str, str]) -> Tooth:
    return Tooth(kind, name, edits, tuple(f"tests/{test}" for test in tests.split()))


TEETH = (
    # -- paths ------------------------------------------------------------------------------
    tooth(
        "1",
        "paths are resolved under the root",
        "security/test_paths.py::test_symlinks",
        ("libexec/paths.c", ".resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS }", ".resolve = 0 }"),
        ("libexec/paths.c", "syscall(SYS_openat2, root, path,", "syscall(SYS_openat2, root, path + (*path == '/'),"),
    ),
    tooth(
        "1",
        "the walk that makes directories follows nothing by itself",
        "security/test_paths.py::test_symlinks",
        (
            "libexec/paths.c",
            "fd = openat(w->dir[w->depth], name, O_PATH | O_NOFOLLOW | O_CLOEXEC);",
            "fd = openat(w->dir[w->depth], name, O_PATH | O_CLOEXEC);",
        ),
    ),
    tooth(
        "1",
        'the walk stops ".." at the root',
        "security/test_paths.py::test_symlinks security/test_paths.py::test_parent_of_the_root",
        (
            "libexec/paths.c",
            "		walk_pop_to(w, w->depth > 0 ? w->depth - 1 : 0);\n		return 0;",
            "		fd = openat(w->dir[w->depth], name, O_PATH | O_CLOEXEC);\n		return walk_push(w, fd);",
        ),
    ),
    tooth(
        "2",
        "/dev is resolved under the root",
        "security/test_paths.py::test_dev_is_a_symlink",
        ("libexec/paths.c", ".resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS }", ".resolve = 0 }"),
        ("libexec/paths.c", "syscall(SYS_openat2, root, path,", "syscall(SYS_openat2, root, path + (*path == '/'),"),
    ),
    tooth(
        "2",
        "no symlink is followed to where devices are made",
        "security/test_paths.py::test_dev_is_a_symlink_to_a_volume",
        ("libexec/files.c", "flags & OWN_WAY ? FOLLOW_NONE : FOLLOW_ALL, name)", "FOLLOW_ALL, name)"),
    ),
    tooth(
        "8",
        "the target of a symlink begins at the container's root",
        "security/test_paths.py::test_dangling_symlinks_work_inside",
        (
            "libexec/paths.c",
            "	if (target[0] == '/')\n		walk_pop_to(w, 0);\n	return 0;",
            "	if (target[0] == '/') {\n		walk_pop_to(w, 0);\n		close(w->dir[0]);\n"
            '		w->dir[0] = open("/", O_PATH | O_CLOEXEC);\n	}\n	return 0;',
        ),
    ),
    tooth(
        "3",
        "a device is recognised by type and number",
        "security/test_paths.py::test_devices_of_the_image",
        ("libexec/files.c", "(S_ISFIFO(mode) || st.st_rdev == dev)", "(S_ISFIFO(mode) || st.st_rdev != dev)"),
    ),
    tooth(
        "3",
        "/dev/console is not followed",
        "security/test_paths.py::test_console_is_not_followed",
        ("libexec/files.c", '"/dev/console", WANT_FILE, FOLLOW_NONE)', '"/dev/console", WANT_FILE, FOLLOW_ALL)'),
    ),
    tooth(
        "4",
        "/proc and /sys are ordinary directories",
        "security/test_procfs.py::test_proc_and_sys_are_directories",
        ("libexec/mounts.c", '!strcmp(type, "proc") || !strcmp(type, "sysfs")', "false"),
    ),
    tooth(
        "4",
        "nothing is mounted on what the kernel says is procfs",
        "security/test_procfs.py::test_no_volume_covers_proc_through_a_symlink",
        ("libexec/mounts.c", "!over_proc && is_fs(fd, PROC_SUPER_MAGIC)", "false && over_proc"),
    ),
    tooth(
        "4",
        "no mount over or under /proc is planned",
        "security/test_procfs.py::test_no_volume_covers_proc",
        ("pyoci/plan/mounts.py", "    if not allowed:\n", "    if not allowed and False:\n"),
        ("libexec/mounts.c", "!over_proc && is_fs(fd, PROC_SUPER_MAGIC)", "false && over_proc"),
    ),
    tooth(
        "4",
        "values are written through the verified procfs",
        "security/test_procfs.py::test_values_without_a_proc_of_the_container "
        "security/test_procfs.py::test_exec_writes_to_the_kernel",
        (
            "libexec/paths.c",
            "int fd = (int)syscall(SYS_openat2, ctx->proc, path, &how, sizeof(how));",
            'char full[600];\n	snprintf(full, sizeof(full), "/proc/%s", path);\n	if (flags & O_WRONLY)\n'
            "		return path_reopen(ctx, full, flags);\n	int fd = (int)syscall(SYS_openat2, ctx->proc, path, &how, sizeof(how));",
        ),
        (
            "libexec/paths.c",
            "int proc_open(const struct ctx *ctx, const char *path, int flags)\n{",
            "static int path_reopen(const struct ctx *ctx, const char *path, int flags)\n{\n	char self[40];\n"
            "	int fd = ctx->root < 0 ? open(path, O_PATH) : path_open(ctx, path, false);\n"
            '	if (fd < 0)\n		return fd;\n	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);\n'
            "	if (ctx->root >= 0)\n		return openat(ctx->proc, self + 6, flags) ?: -errno;\n"
            "	return open(self, flags);\n}\nint proc_open(const struct ctx *ctx, const char *path, int flags)\n{",
        ),
    ),
    tooth(
        "5",
        "what masks is the host's null device",
        "security/test_paths.py::test_what_masks_is_not_that_of_a_volume",
        (
            "libexec/mounts.c",
            "r = attach_clone(ctx->null, fd, false);",
            'r = attach_clone(path_open(ctx, "/dev/null", false), fd, false);',
        ),
    ),
    tooth(
        "6",
        "a racing rename is no way out",
        "security/test_races.py::test_exchanged_component",
        ("libexec/paths.c", ".resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS }", ".resolve = 0 }"),
        ("libexec/paths.c", "syscall(SYS_openat2, root, path,", "syscall(SYS_openat2, root, path + (*path == '/'),"),
    ),
    tooth(
        "7",
        "an id is checked before it is a path",
        "security/test_names.py::test_ids",
        (
            "pyoci/spec.py",
            "def check_id(id: str) -> None:",
            "def check_id(id: str) -> None:\n    return\n\n\ndef unused(id: str) -> None:",
        ),
        ("libexec/verbs.c", "if (i >= argc || !good_id(argv[i]))", "if (i >= argc)"),
    ),
    tooth(
        "7",
        "exec --cgroup stays below",
        "security/test_names.py::test_exec_cgroup",
        ("pyoci/container_exec.py", 'if ".." in path.split("/") or not path.isprintable():', "if False:"),
    ),
    # -- descriptors ------------------------------------------------------------------------
    tooth(
        "9",
        "every descriptor but ours is closed",
        "security/test_descriptors.py::test_only_stdio",
        ("libexec/degraded.c", "if (first > last || close_range(first, last, 0) == 0)\n		return 0;", "return 0;"),
    ),
    tooth(
        "9",
        "without close_range they are closed as well",
        "security/test_degraded.py::test_leaks_are_closed",
        (
            "libexec/degraded.c",
            "if (first > last || close_range(first, last, 0) == 0)\n		return 0;",
            "close_range(first, last, 0);\n	return 0;",
        ),
    ),
    tooth(
        "9",
        "the working directory is inside",
        "security/test_descriptors.py::test_cwd_of_create security/test_descriptors.py::test_cwd_of_exec",
        ("libexec/process.c", "if (path[0] != '/')", "if (0)"),
    ),
    tooth(
        "10",
        "the joining process is not dumpable",
        "security/test_joining.py::test_create_in_the_user_namespace_of_a_watcher",
        (
            "libexec/nsexec.c",
            "	prctl(PR_SET_DUMPABLE, 0);\n	prctl(PR_SET_PDEATHSIG, SIGKILL);",
            "	prctl(PR_SET_DUMPABLE, 1);",
        ),
    ),
    tooth(
        "10",
        "exec enters the pid namespace with the container's rights",
        "security/test_joining.py::test_exec_under_a_tracer",
        ("pyoci/plan/__init__.py", "    steps += namespaces.fork(target.namespaces, [], shed=True)\n", ""),
        (
            "pyoci/plan/__init__.py",
            "    steps += process.console(process_config, bind=False)\n",
            "    steps += namespaces.fork(target.namespaces, [])\n    steps += process.console(process_config, bind=False)\n",
        ),
    ),
    tooth(
        "10",
        "nothing of the host is open in it",
        "security/test_joining.py::test_exec_under_a_tracer",
        ("libexec/namespaces.c", "	if (op->num[0])\n		shed_host(ctx);\n", ""),
    ),
    tooth(
        "10",
        "a stolen socket names no process of the host",
        "unit/test_nsexec_host.py::test_a_stolen_socket",
        (
            "pyoci/host/nsexec.py",
            "wanted &= self._at < message.op < len(self._plan) and self._plan[message.op].name == name",
            "wanted &= True",
        ),
    ),
    tooth(
        "10",
        "nsexec runs from a sealed copy",
        "security/test_joining.py::test_the_binary_stays_what_it_is",
        (
            "pyoci/host/nsexec.py",
            "_copy = _sealed_copy(path)",
            "_copy = kernel.open(path, kernel.O_RDONLY | kernel.O_CLOEXEC)",
        ),
    ),
    tooth(
        "11",
        "what a run opened is closed",
        "security/test_leaks.py::test_lives security/test_leaks.py::test_failing_creates",
        ("pyoci/container_shared.py", "            kernel.close(self.fds.pop())\n", "            self.fds.pop()\n"),
    ),
    # -- attributes -------------------------------------------------------------------------
    tooth(
        "12",
        "the inheritable set is the config's",
        "security/test_attributes.py::test_capabilities",
        ("libexec/process.c", "permitted & have, inheritable & have)", "permitted & have, have)"),
    ),
    tooth(
        "12",
        "the bounding set is the config's",
        "security/test_attributes.py::test_capabilities",
        ("libexec/process.c", "if ((uint64_t)op->num[0] >> cap & 1)\n			continue;", "continue;"),
    ),
    tooth(
        "13",
        "the caller's groups are dropped",
        "security/test_attributes.py::test_no_groups_of_the_caller",
        (
            "pyoci/plan/process.py",
            "        flags |= ops.SETGROUPS\n",
            "        flags |= ops.SETGROUPS * bool(groups)\n",
        ),
    ),
    tooth(
        "13",
        "signals are as in a new process",
        "security/test_attributes.py::test_groups_umask_signals",
        ("libexec/nsexec.c", "for (int sig = 1; sig <= 64; sig++)", "for (int sig = 1; sig <= 0; sig++)"),
    ),
    tooth(
        "13",
        "a session of its own",
        "security/test_attributes.py::test_terminal_of_the_caller",
        ("pyoci/plan/process.py", 'steps = [ops.op("setsid")]', "steps: list[ops.Op] = []"),
    ),
    tooth(
        "13",
        "all is ready before seccomp is loaded",
        "security/test_seccomp.py::test_only_execve_is_needed",
        (
            "libexec/process.c",
            "int r = last->code == OP_EXEC ? ready_to_exec(ctx, last) : 0;",
            "int r = 0;\n	(void)last;",
        ),
    ),
    tooth(
        "13",
        "a keyring of its own",
        "security/test_attributes.py::test_keyring",
        ("pyoci/plan/process.py", "if draft.options.no_new_keyring:", "if True:"),
    ),
    tooth(
        "14",
        "a number is an id",
        "security/test_names.py::test_exec_user_is_that_user",
        ("pyoci/container_user.py", "            uid = number(name)\n", "            uid = None\n"),
    ),
    tooth(
        "15",
        "conditions of one rule are AND",
        "security/test_seccomp.py::test_conditions_of_one_rule_are_and",
        ("pyoci/plan/seccomp_filter.py", "for condition in reversed(conditions):", "for condition in conditions[:1]:"),
    ),
    tooth(
        "15",
        "a foreign architecture is refused",
        "security/test_seccomp.py::test_foreign_architectures",
        ("pyoci/plan/seccomp_filter.py", "start = builder.ret(BAD_ARCH)", "start = builder.ret(default)"),
        ("pyoci/plan/seccomp_filter.py", 'if architectures == ["SCMP_ARCH_X86_64"]:', "if False:"),
    ),
    tooth(
        "16",
        "hooks have an environment of their own",
        "security/test_hooks.py::test_environment",
        ("libexec/hook.c", "execve(op->strs[0].data, argv, envp);", "execve(op->strs[0].data, argv, plan_env(ctx));"),
        (
            "libexec/hook.c",
            "/* The child's side:",
            "static char **plan_env(const struct ctx *ctx)\n{\n	const struct op *op = &ctx->plan.ops[ctx->plan.nops - 1];\n"
            "	char **v = calloc((size_t)op->num[1] + 1, sizeof(*v));\n	for (int64_t i = 0; i < op->num[1]; i++)\n"
            "		v[i] = (char *)(uintptr_t)op->strs[op->num[0] + i].data;\n	return v;\n}\n/* The child's side:",
        ),
    ),
    # -- input, state -----------------------------------------------------------------------
    tooth(
        "17",
        "duplicate keys are refused",
        "security/test_input.py::test_hostile_json",
        ("pyoci/json.py", "if len(result) != len(pairs):", "if False:"),
    ),
    tooth(
        "17",
        "an error is one line of text",
        "security/test_output.py::test_one_line_of_a_log security/test_output.py::test_one_line_of_a_terminal",
        ("pyoci/errors.py", "    if text.isprintable():\n        return text\n", "    return text\n"),
    ),
    tooth(
        "17",
        "what is printed moves no cursor",
        "security/test_output.py::test_what_is_listed",
        ("pyoci/json.py", 'if not text.isascii() and not text.replace("\\n", "").isprintable():', "if False:"),
    ),
    tooth(
        "17",
        "a fifo in the place of a file is not opened for reading",
        "security/test_odd_files.py::test_in_the_place_of_a_file",
        ("libexec/paths.c", "|| !S_ISREG(st.st_mode))", ")"),
        ("libexec/paths.c", "O_RDONLY | O_CLOEXEC | O_NONBLOCK)) >= 0", "O_RDONLY | O_CLOEXEC)) >= 0"),
    ),
    tooth(
        "18",
        "the plan reader holds lengths against the record",
        "unit/test_nsexec_reader.py",
        ("libexec/plan.c", "if (len >= (size_t)(end - p) || p[len] != 0)", "if (p[len] != 0)"),
    ),
    tooth(
        "19",
        "the state of another user is not believed",
        "unit/test_state.py::test_a_state_of_another_user security/test_names.py::test_a_state_that_another_user_made",
        ("pyoci/host/state.py", "if status.st_uid != kernel.geteuid() or status.st_mode & 0o022:", "if False:"),
    ),
    tooth(
        "19",
        "modes are given to what was made",
        "unit/test_state.py::test_a_link_in_the_place_of_what_was_made",
        (
            "pyoci/host/state.py",
            "    fd = kernel.open(path, kernel.O_PATH | kernel.O_DIRECTORY | kernel.O_NOFOLLOW | kernel.O_CLOEXEC)\n",
            "    fd = kernel.open(path, kernel.O_PATH | kernel.O_CLOEXEC)\n",
        ),
    ),
    tooth(
        "19",
        "a reused pid is not init",
        "integration/test_create_steps.py::test_reused_pid_is_not_signalled",
        ("pyoci/host/process.py", "if start_time(pid) != start:", "if start_time(pid) < 0:"),
        ("libexec/verbs.c", "start_time(call->pid) == (unsigned long long)op->num[1]", "start_time(call->pid) > 0"),
    ),
    tooth(
        "19",
        "init ends with a runtime that is killed",
        "integration/test_create_steps.py::test_sigkill_at_each_step",
        (
            "libexec/channel.c",
            "	if (n != sizeof(msg) || msg.kind != MSG_GO)\n		_exit(1);",
            "	if (n != sizeof(msg))\n		for (;;)\n			pause();",
        ),
        ("libexec/nsexec.c", "	prctl(PR_SET_PDEATHSIG, SIGKILL);\n}", "}"),
        ("libexec/process.c", "if (ctx->sock >= 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)", "if (0)"),
    ),
    tooth(
        "20",
        "bpf(2) has room to write to",
        "security/test_bpf.py",
        ("pyoci/host/bpf.py", "ctypes.create_string_buffer(head, ATTR_SIZE)", "ctypes.create_string_buffer(head, 64)"),
    ),
    tooth(
        "22",
        "what a container has frozen is thawed",
        "security/test_ending.py::test_a_container_that_freezes_itself",
        ("pyoci/host/cgroup.py", "for fd, name in cgroupfs.walk(top) if top else ():", "for fd, name in ():"),
    ),
    tooth(
        "22",
        "what a failed create made is undone",
        "security/test_degraded.py::test_no_user_namespaces security/test_faults.py::test_each_call_fails_once",
        ("pyoci/container_create.py", "            remove(self.directory, self.record)\n", ""),
    ),
    tooth(
        "21",
        "a refused call is named",
        "security/test_degraded.py::test_life_without",
        ("libexec/nsexec.c", "		name_refused(ctx, -r);\n", ""),
    ),
    tooth(
        "21",
        "without openat2 the walk is as safe",
        "security/test_degraded.py::test_paths_without_openat2",
        (
            "libexec/paths.c",
            "	if (target[0] == '/')\n		walk_pop_to(w, 0);\n	return 0;",
            "	return -ELOOP * 0;",
        ),
        (
            "libexec/paths.c",
            "fd = openat(w->dir[w->depth], name, O_PATH | O_NOFOLLOW | O_CLOEXEC);",
            "fd = openat(w->dir[w->depth], name, O_PATH | O_CLOEXEC);",
        ),
    ),
)


# -- running them ---------------------------------------------------------------------------


def copy(directory: Path) -> None:
    """The tree without what was built of it."""
    for part in PARTS:
        source = PROJECT / part
        if source.is_dir():
            shutil.copytree(source, directory / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, directory / part)
    (directory / "build").mkdir()


def edit(directory: Path, tooth: Tooth) -> str:
    """Take the defence out.  Returns "" or what does not fit."""
    for name, old, new in tooth.edits:
        file = directory / name
        text = file.read_text()
        if text.count(old) != 1:
            return f"{name} has {text.count(old)} times {old.strip()[:50]!r}"
        file.write_text(text.replace(old, new))
    return ""


def build(directory: Path, tooth: Tooth | None) -> None:
    """build/pyoci and build/nsexec; and with the sanitizers where a test wants it."""
    sources = sorted(map(str, directory.glob("libexec/*.c")))
    binary = directory / "build/pyoci"
    changed = tooth is None or any(name.startswith("libexec/") for name, _, _ in tooth.edits)
    if changed or not (PROJECT / "build/pyoci").exists():
        subprocess.run(["cc", *CFLAGS, "-static", "-o", binary, *sources], check=True)
    else:
        shutil.copy(PROJECT / "build/pyoci", binary)
    os.link(binary, directory / "build/nsexec")
    if tooth is None or any("reader" in test for test in tooth.tests):
        flags = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
        subprocess.run(["cc", *CFLAGS, *flags, "-o", directory / "build/nsexec-asan", *sources], check=True)


def run(directory: Path, tests: tuple[str, ...], *options: str) -> tuple[int, str]:
    """pytest in the copy: its exit status and the end of what it said."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, *tests]
    environment = {name: value for name, value in os.environ.items() if name not in ("RUNTIME", "PYOCI_LONG")}
    try:
        done = subprocess.run(
            command, cwd=directory, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        return 1, "timed out"
    return done.returncode, "\n".join(done.stdout.strip().splitlines()[-3:])


def bite(tooth: Tooth) -> tuple[Tooth, str, float]:
    """ "noticed", or what is wrong."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pyoci-teeth-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        copy(directory)
        verdict = edit(directory, tooth)
        if not verdict:
            build(directory, tooth)
            for _ in range(ATTEMPTS):
                code, said = run(directory, tooth.tests, "-x")
                if code:
                    break
            verdict = "noticed" if code == 1 else "NOT NOTICED" if code == 0 else f"pytest exited {code}: {said}"
    return tooth, verdict, time.monotonic() - start


def baseline(teeth: list[Tooth]) -> str:
    """All their tests, without any edit: they have to pass."""
    tests = tuple(sorted({test for tooth in teeth for test in tooth.tests}))
    with tempfile.TemporaryDirectory(prefix="pyoci-teeth-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        copy(directory)
        build(directory, None)
        code, said = run(directory, tests)
    return "" if code == 0 else said


def main(words: list[str]) -> int:
    teeth = [tooth for tooth in TEETH if not words or any(word in tooth.name for word in words)]
    print("without any edit: ", end="", flush=True)
    wrong = baseline(teeth)
    print(wrong or "all tests pass", flush=True)
    failures = int(bool(wrong))
    with ThreadPoolExecutor(max_workers=2) as pool:
        for tooth, verdict, seconds in pool.map(bite, teeth):
            print(f"{tooth.kind:>3}  {tooth.name:60} {verdict}  ({seconds:.0f} s)", flush=True)
            failures += verdict != "noticed"
    print(f"{len(teeth)} defences, {failures} failures")
    return int(failures > 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
