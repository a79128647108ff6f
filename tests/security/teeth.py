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
        "security/test_paths.py::test_symlinks_lead_to_the_same_path_inside",
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
        ("libexec/files.c", "flags & OWN_WAY ? FOLLOW_NONE : FOLLOW_ALL, name)", "FOLLOW_ALL, name)"),
    ),
    tooth(
        "2",
        "no symlink is followed to where devices are made",
        "security/test_paths.py::test_dev_is_a_symlink_to_a_volume",
        ("libexec/files.c", "flags & OWN_WAY ? FOLLOW_NONE : FOLLOW_ALL, name)", "FOLLOW_ALL, name)"),
    ),
    tooth(
        "2",
        "devices are made on the mount that the config put there",
        "security/test_covering.py::test_a_volume_over_dev",
        ("libexec/placed.c", "? root.stx_mnt_id : ctx->placed[i].id) ? 0 : -EXDEV;", "? 0 : 1) * 0;"),
    ),
    tooth(
        "2",
        "nor is a directory on the way made in another one",
        "security/test_covering.py::test_a_device_in_a_volume",
        ("libexec/paths.c", "if (w->follow == FOLLOW_NONE && (fd = on_placed(w->ctx, w->path, dir)) < 0)", "if (0)"),
    ),
    tooth(
        "2",
        "no symlink is followed to a device outside /dev",
        "security/test_covering.py::test_a_device_in_a_volume",
        (
            "pyoci/plan/devices.py",
            "        flags=ops.OWN_WAY,\n",
            '        flags=ops.OWN_WAY if path.startswith("/dev/") else 0,\n',
        ),
    ),
    tooth(
        "2",
        "nor to where a device is bound outside /dev",
        "security/test_covering.py::test_a_device_in_a_volume_of_a_user_namespace",
        ("pyoci/plan/devices.py", "flags=ops.BIND_OWN_WAY, where", "flags=0, where"),
    ),
    tooth(
        "1",
        "nothing is mounted on the root itself",
        "security/test_covering.py::test_a_mount_over_the_root",
        ("libexec/placed.c", "st.stx_ino == root.stx_ino)", "false)"),
    ),
    tooth(
        "1",
        "mounts remove is not led to the runtime's own mounts",
        "integration/test_mounts_verb.py::test_remove_is_not_led_to_other_mounts",
        ("libexec/mounts.c", "if (n != (ssize_t)strlen(words) || memcmp(where, words, (size_t)n))", "if (0)"),
    ),
    tooth(
        "1",
        "mounts remove takes away what mounts add has put there",
        "integration/test_mounts_verb.py::test_remove_finds_what_was_added",
        ("libexec/mounts.c", "	if (op->num[0]) {\n", "	if (op->num[0]) {\n		return 1;\n"),
    ),
    tooth(
        "1",
        "mounts remove is not given a namesake of what is covered",
        "integration/test_mounts_verb.py::test_remove_is_not_given_a_namesake",
        (
            "pyoci/plan/__init__.py",
            "        if not number:\n            _check_namesakes(",
            "        if False:\n            _check_namesakes(",
        ),
    ),
    tooth(
        "6",
        "what is mounted later is read-only from its first moment",
        "integration/test_mounts_verb.py::test_read_only_from_the_first_moment",
        (
            "pyoci/plan/mounts.py",
            'if dest == "/dev" and wanted.on & linux.MOUNT_ATTR_RDONLY and not draft.apart:',
            'if dest == "/dev" and wanted.on & linux.MOUNT_ATTR_RDONLY:',
        ),
    ),
    tooth(
        "22",
        "of a list of mounts that fails none stays",
        "integration/test_mounts_verb.py::test_of_a_list_that_fails_none_stays",
        ("pyoci/container_mounts.py", "        if done:\n", "        if False:\n"),
    ),
    tooth(
        "1",
        "what is remounted is what the config mounted there",
        "security/test_covering.py::test_a_remount_of_another_file_system",
        ("libexec/mounts.c", 'strcmp(dest, "/") ? placed_open(ctx, dest) : path_open(', "path_open("),
    ),
    tooth(
        "7",
        "the launcher takes the ids that Python takes",
        "security/test_words_of_c.py::test_ids",
        ("libexec/verbs.c", '!strchr("_+-.", *p)', '!strchr("_+-./", *p)'),
    ),
    tooth(
        "17",
        "what the launcher takes means the same to Python",
        "security/test_words_of_c.py::test_command_lines",
        ("libexec/verbs.c", "return *end || number < 1", "return number < 1"),
    ),
    tooth(
        "14",
        "a home is that of the uid",
        "security/test_words_of_c.py::test_homes",
        ("libexec/process.c", "&& !*end && *field[5]", "&& *field[5]"),
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
        "3",
        "the terminal comes from its master",
        "security/test_paths.py::test_slave_is_not_looked_up",
        ("libexec/files.c", "ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC)", "slave_by_path(ctx)"),
        (
            "libexec/files.c",
            "int op_console(struct ctx *ctx, const struct op *op)\n{",
            "static int slave_by_path(struct ctx *ctx)\n{\n	char self[32];\n"
            '	snprintf(self, sizeof(self), "self/fd/%d", path_open(ctx, "/dev/pts/0", false));\n'
            "	return openat(ctx->proc, self, O_RDWR | O_NOCTTY | O_CLOEXEC);\n}\n"
            "int op_console(struct ctx *ctx, const struct op *op)\n{",
        ),
    ),
    tooth(
        "3",
        "what is no ptmx is not opened",
        "security/test_paths.py::test_what_is_no_multiplexer_is_not_opened",
        ("libexec/files.c", "if (is_device(fd, 5, 2))", "if (true)"),
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
        "a procfs covers another as a whole only",
        "security/test_procfs.py::test_a_root_that_comes_with_a_procfs",
        ("libexec/mounts.c", "over == OVER_WHOLE_PROC && whole_proc(fd)", "over == OVER_WHOLE_PROC"),
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
            "r = attach_clone(ctx->null, fd, MOUNT_ATTR",
            'r = attach_clone(path_open(ctx, "/dev/null", false), fd, MOUNT_ATTR',
        ),
    ),
    tooth(
        "5",
        "the directory that masks is read-only",
        "security/test_paths.py::test_what_masks_is_not_the_images",
        ("libexec/mounts.c", "MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,", "MS_NOSUID | MS_NODEV | MS_NOEXEC,"),
    ),
    tooth(
        "5",
        "a read-only path is read-only",
        "security/test_paths.py::test_what_is_read_only_cannot_be_written_to",
        ("libexec/mounts.c", "set_attr(tree, MOUNT_ATTR_RDONLY, 0, 0, false)", "set_attr(tree, 0, 0, 0, false)"),
    ),
    tooth(
        "5",
        "what masks keeps the mode that it has on the host",
        "security/test_null.py",
        ("libexec/mounts.c", "fd, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC)", "fd, 0)"),
    ),
    tooth(
        "5",
        "so does a device that is bound",
        "security/test_null.py",
        ("pyoci/plan/devices.py", '{"attr_set": linux.MOUNT_ATTR_RDONLY}', '{"attr_set": 0}'),
    ),
    tooth(
        "5",
        "so does the null device among the streams",
        "security/test_null.py",
        ("libexec/files.c", "int fd = is_device(i, 1, 3) ?", "int fd = i > 2 ?"),
    ),
    tooth(
        "6",
        "a racing rename is no way out",
        "security/test_races.py::test_exchanged_component",
        ("libexec/paths.c", ".resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS }", ".resolve = 0 }"),
        ("libexec/paths.c", "syscall(SYS_openat2, root, path,", "syscall(SYS_openat2, root, path + (*path == '/'),"),
    ),
    tooth(
        "6",
        "tmpcopyup copies no device",
        "security/test_races.py::test_copyup_reads_no_device",
        (
            "libexec/files.c",
            "} else if (S_ISDIR(st.st_mode) || S_ISREG(st.st_mode)) {",
            "} else if (!S_ISFIFO(st.st_mode)) {",
        ),
    ),
    tooth(
        "6",
        "the owner is given to what was mounted",
        "security/test_races.py::test_exchanged_owner",
        (
            "libexec/mounts.c",
            "	r = next ? own(ctx, next, *mnt) : 0;\n	if (r == 0)\n		r = set_attr(*mnt, attributes, 0, 0, false);\n"
            "	return r < 0 ? r : attach(*mnt, at);",
            "	r = attach(*mnt, at);\n	if (r == 0 && next)\n"
            "		r = own(ctx, next, path_open(ctx, next->strs[0].data, false));\n	return r;",
        ),
    ),
    tooth(
        "6",
        "what tmpcopyup opened is what it looked at",
        "security/test_races.py::test_exchanged_file_of_copyup",
        (
            "libexec/files.c",
            "if (fstat(in, st) < 0 || !(dir ? S_ISDIR(st->st_mode) : S_ISREG(st->st_mode))) {",
            "if (fstat(in, st) < 0) {",
        ),
    ),
    tooth(
        "6",
        "what is copied up is one file",
        "security/test_races.py::test_exchanged_files_copyup",
        (
            "libexec/files.c",
            "if (fstat(in, st) < 0 || !(dir ? S_ISDIR(st->st_mode) : S_ISREG(st->st_mode)))",
            "struct stat now;\n	if (fstat(in, &now) < 0 || (now.st_mode & S_IFMT) != (st->st_mode & S_IFMT))",
        ),
    ),
    tooth(
        "6",
        "a symlink that is copied up is one",
        "security/test_races.py::test_exchanged_files_copyup",
        (
            "libexec/files.c",
            "r = copy_link(file, to, name, &st);",
            "close(file);\n		file = openat(from, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);\n"
            "		r = copy_link(file, to, name, &st);",
        ),
    ),
    tooth(
        "6",
        "what was mounted becomes read-only",
        "security/test_races.py::test_exchanged_read_only",
        (
            "libexec/mounts.c",
            "r = set_attr(ctx->trees[slot], MOUNT_ATTR_RDONLY",
            "r = set_attr(path_open(ctx, op->strs[0].data, false), MOUNT_ATTR_RDONLY",
        ),
    ),
    tooth(
        "7",
        "an id is checked before it is a path",
        "security/test_names.py::test_ids security/test_names.py::test_the_way_to_a_container_of_another_root",
        (
            "pyoci/spec.py",
            "def check_id(id: str) -> None:",
            "def check_id(id: str) -> None:\n    return\n\n\ndef unused(id: str) -> None:",
        ),
    ),
    tooth(
        "7",
        "the launcher checks an id before it is a path",
        "security/test_names.py::test_the_way_to_a_container_of_another_root",
        ("libexec/verbs.c", "if (i >= argc || !good_id(argv[i]))", "if (i >= argc)"),
    ),
    tooth(
        "7",
        "a root with control characters is refused",
        "security/test_names.py::test_a_root_with_control_characters",
        (
            "pyoci/host/state.py",
            'if not path.isprintable() and any(c < " " or c == "\\x7f" for c in path):',
            "if False:",
        ),
    ),
    tooth(
        "7",
        "a root with control characters is not the launcher's",
        "security/test_names.py::test_a_root_with_control_characters",
        ("libexec/verbs.c", "call->root && good_root(call->root) &&", "call->root &&"),
    ),
    tooth(
        "7",
        "exec --cgroup stays below",
        "security/test_names.py::test_exec_cgroup",
        ("pyoci/container_exec.py", 'if ".." in path.split("/") or not', "if not"),
    ),
    tooth(
        "7",
        "exec --cgroup is printable",
        "security/test_names.py::test_exec_cgroup",
        ("pyoci/container_exec.py", '".." in path.split("/") or not path.isprintable():', '".." in path.split("/"):'),
    ),
    tooth(
        "7",
        "cgroupsPath leads to no cgroup of another container",
        "security/test_names.py::test_cgroups_path_into_another_container",
        ("pyoci/spec_kinds.py", 'if ".." in value.split("/"):', "if False:"),
        ("pyoci/plan/cgroup.py", 'if ".." in parts:', "if False:"),
    ),
    tooth(
        "7",
        "a sysctl belongs to a namespace",
        "security/test_names.py::test_sysctl_keys",
        (
            "pyoci/spec_cross.py",
            "        if not kind:\n",
            "        if not kind:\n            continue\n        if not kind:\n",
        ),
        (
            "pyoci/plan/sysctl.py",
            "        if kind is None:\n",
            '        if kind is None:\n            steps.append(ops.op("sysctl", path, value))\n            continue\n'
            "        if kind is None:\n",
        ),
    ),
    tooth(
        "7",
        "a sysctl is no path",
        "security/test_names.py::test_sysctl_keys",
        ("pyoci/spec_kinds.py", 'or not all(value.replace("/", ".").split(".")):', "or not value:"),
        ("pyoci/plan/sysctl.py", 'any(part in ("", ".", "..") for part in path.split("/")):', "not path:"),
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
        "what is preserved was handed on",
        "security/test_descriptors.py::test_what_nobody_handed_on_is_not_the_runtimes",
        (
            "pyoci/container_shared.py",
            "        return kernel.get_inheritable(fd)\n",
            "        return bool(kernel.fstat(fd))\n",
        ),
    ),
    tooth(
        "9",
        "what the runtime has opened is close-on-exec to the end",
        "security/test_descriptors.py::test_nothing_of_nsexec_is_preserved",
        (
            "libexec/process.c",
            "	if (prctl(PR_SET_PDEATHSIG, 0) < 0)\n		return -errno;\n	ctx->envp",
            "	for (int64_t fd = 3; fd < 3 + preserve; fd++)\n		fcntl((int)fd, F_SETFD, 0);\n	prctl(PR_SET_PDEATHSIG, 0);\n	ctx->envp",
        ),
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
        "security/test_descriptors.py::test_cwd_of_create",
        ("libexec/process.c", "if (path[0] != '/')", "if (0)"),
    ),
    tooth(
        "9",
        "so is that of exec, whatever is exchanged meanwhile",
        "security/test_races.py::test_exchanged_cwd_of_exec",
        ("libexec/process.c", "if (path[0] != '/')", "if (0)"),
    ),
    tooth(
        "10",
        "the joining process is not dumpable",
        "security/test_joining.py::test_create_in_the_user_namespace_of_a_watcher",
        (
            "libexec/nsexec.c",
            "return prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ? -errno : 0;",
            "prctl(PR_SET_DUMPABLE, 1);\n	return 0;",
        ),
    ),
    tooth(
        "9",
        "files of the caller stay the caller's",
        "security/test_descriptors.py::test_files_of_the_caller_stay_the_callers",
        ("libexec/process.c", "st.st_uid != uid && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode))", "st.st_uid != uid"),
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
    tooth(
        "11",
        "the cgroups go with the container",
        "security/test_leaks.py::test_lives security/test_leaks.py::test_failing_creates",
        ("pyoci/container_start.py", '        cgroup_remove.destroy(record["cgroup"])\n', ""),
    ),
    tooth(
        "11",
        "the keyring is seen",
        "security/test_leaks.py::test_a_keyring_is_seen",
        ("pyoci/plan/process.py", "if draft.options.no_new_keyring:", "if True:"),
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
        "12",
        "exec --cap adds nothing inheritable",
        "security/test_attributes.py::test_exec_cap_adds_one",
        (
            "pyoci/cli/exec.py",
            'for kind in ("bounding", "effective", "permitted"):',
            'for kind in ("bounding", "effective", "permitted", "inheritable"):',
        ),
    ),
    tooth(
        "12",
        "exec --cap adds nothing ambient",
        "security/test_attributes.py::test_exec_cap_adds_one",
        (
            "pyoci/cli/exec.py",
            'for kind in ("bounding", "effective", "permitted"):',
            'for kind in ("bounding", "effective", "permitted", "ambient"):',
        ),
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
        "the caller's groups do not enter a user namespace",
        "security/test_joining.py::test_groups_in_a_user_namespace_of_init",
        ("libexec/namespaces.c", "op->num[0] == CLONE_NEWUSER && (r = drop_groups(ctx)) < 0", "(r = 0) < 0"),
    ),
    tooth(
        "13",
        "signals are as in a new process",
        "security/test_attributes.py::test_groups_umask_signals",
        ("libexec/nsexec.c", "for (int sig = 1; sig <= 64; sig++)", "for (int sig = 1; sig <= 0; sig++)"),
    ),
    tooth(
        "13",
        "no signal is blocked",
        "security/test_attributes.py::test_groups_umask_signals",
        ("libexec/nsexec.c", "	return sigprocmask(SIG_SETMASK, &none, NULL) < 0 ? -errno : 0;\n", "	return 0;\n"),
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
        "13",
        "exec has the keyring of the container",
        "security/test_attributes.py::test_keyring",
        ("pyoci/plan/__init__.py", "    steps += process.keyring(draft, process_config)\n", ""),
    ),
    tooth(
        "14",
        "a line that is too short is nobody's",
        "unit/test_container_user.py::test_any_file_is_read",
        ("pyoci/container_user.py", "if len(fields) >= least and fields[0]:", "if len(fields) >= 3 and fields[0]:"),
    ),
    tooth(
        "14",
        "ids of the image's files are held to their range",
        "unit/test_container_user.py::test_any_file_is_read",
        ("pyoci/container_user.py", "and int(text) <= MAX_ID):", "):"),
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
        "rules of one call are OR",
        "security/test_seccomp.py::test_rules_of_one_call_are_or",
        ("pyoci/plan/seccomp_filter.py", "known.extend(rule.ways)", "known[:] = rule.ways"),
    ),
    tooth(
        "15",
        "values are compared in full",
        "security/test_seccomp.py::test_all_64_bits_count",
        ("pyoci/plan/seccomp_filter.py", "builder.compare(condition, narrow,", "builder.compare(condition, True,"),
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
    tooth(
        "16",
        "time out of a hook in the container ends its group",
        "security/test_hooks.py::test_timeout_ends_the_group",
        ("libexec/hook.c", "		kill(-pid, SIGKILL);\n", ""),
    ),
    tooth(
        "16",
        "time out of a hook of the host ends its group",
        "security/test_hooks.py::test_timeout_ends_the_group unit/test_hooks_host.py::test_timeout_kills_the_group",
        ("pyoci/host/child.py", "kernel.killpg(self.pid, _signal.SIGKILL)", "kernel.kill(self.pid, _signal.SIGKILL)"),
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
        "a mount option is one line",
        "security/test_words.py::test_no_line_is_smuggled",
        ("pyoci/spec_tables.py", 'options=strings(no_newline, "\\0\\n"),', "options=strings(),"),
    ),
    tooth(
        "17",
        "no NUL in a text",
        "security/test_words.py::test_no_line_is_smuggled",
        ("pyoci/spec_rules.py", 'return bad("must not contain NUL") if "\\0" in value else None', "return None"),
        ("pyoci/spec_rules.py", 'forbidden: str = "\\0"', 'forbidden: str = ""'),
    ),
    tooth(
        "17",
        "faults are collected up to a number",
        "security/test_input.py::test_large[namespaces]",
        ("pyoci/spec_rules.py", "    if len(found) >= MAX_FAULTS:\n        return found\n", ""),
        (
            "pyoci/spec_cross.py",
            'message=f"{entry[name]} is there twice"), found)\n            if len(found) >= MAX_FAULTS:\n',
            'message=f"{entry[name]} is there twice"), found)\n            if False:\n',
        ),
    ),
    tooth(
        "17",
        "a plan is not made of more than it can hold",
        "security/test_input.py::test_large[masked-paths]",
        ("pyoci/plan/__init__.py", "if entries and len(entries) > ops.MAX_OPS:", "if False:"),
    ),
    tooth(
        "17",
        "an operation has a bounded number of strings",
        "security/test_input.py::test_large[environment]",
        ("pyoci/plan/ops.py", "if len(item.strs) > MAX_STRINGS:", "if False:"),
    ),
    tooth(
        "17",
        "device rules are few",
        "security/test_input.py::test_large[device-rules]",
        ("pyoci/plan/devfilter.py", "if len(devices or ()) > MAX_RULES:", "if False:"),
    ),
    tooth(
        "17",
        "a long name is shown without its middle",
        "security/test_input.py::test_large[name]",
        ("pyoci/errors.py", "MAX_TEXT = 9000", "MAX_TEXT = 1 << 30"),
    ),
    tooth(
        "17",
        "a large config is not explained at length",
        "security/test_input.py::test_validate_of_large[mounts-over-proc]",
        ("pyoci/cli/validate.py", "EXPLAINED = 128 << 10", "EXPLAINED = 1 << 30"),
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
        "17",
        "a pid file is written to a file of our own",
        "security/test_odd_files.py::test_in_the_place_of_the_pid_file",
        (
            "pyoci/container_shared.py",
            "_free(temporary), kernel.O_WRONLY | kernel.O_CREAT | kernel.O_EXCL",
            "temporary, kernel.O_WRONLY | kernel.O_CREAT",
        ),
    ),
    tooth(
        "6",
        "mydocker cp gives owner and mode to what it has made",
        "mydocker/test_copying.py",
        (
            "pyoci/mydocker/copying.py",
            "            _finish(writing, info, own)\n",
            "            _finish(os.open(new, os.O_RDONLY, dir_fd=onto), info, own)\n",
        ),
        (
            "pyoci/mydocker/copying.py",
            "        if stat.S_ISLNK(os.fstat(made).st_mode):  # and not exchanged meanwhile\n",
            "        if True:\n",
        ),
    ),
    tooth(
        "18",
        "the plan reader holds lengths against the record",
        "unit/test_nsexec_reader.py",
        ("libexec/plan.c", "if (len >= (size_t)(end - p) || p[len] != 0)", "if (p[len] != 0)"),
    ),
    tooth(
        "18",
        "a plan of another version is refused",
        "unit/test_nsexec_reader.py::test_another_version_is_refused",
        ("libexec/plan.c", "memcmp(data, PLAN_MAGIC, 8)", "memcmp(data, PLAN_MAGIC, 6)"),
    ),
    tooth(
        "18",
        "a plan ends with its last operation",
        "unit/test_nsexec_reader.py::test_trailing_bytes_and_wrong_counts_are_refused",
        ("libexec/plan.c", 'return at == size ? NULL : "bytes after the last operation";', "return NULL;"),
    ),
    tooth(
        "18",
        "counts of arguments match the strings",
        "unit/test_nsexec_reader.py::test_argument_counts_must_match",
        ("libexec/plan.c", "		if (argc < 1 || envc < 0 ||", "		if (0 && argc < 1 || envc < 0 ||"),
        ("libexec/plan.c", "		    argc + envc != op->nstrs - rule->fixed)", "		    0)"),
    ),
    tooth(
        "19",
        "the state of another user is not believed",
        "unit/test_state.py::test_a_state_of_another_user security/test_names.py::test_a_state_that_another_user_made",
        ("pyoci/host/state.py", "if status.st_uid != kernel.geteuid() or status.st_mode & 0o022:", "if False:"),
    ),
    tooth(
        "19",
        "run deletes no other container of its id",
        "integration/test_run.py::test_run_deletes_no_other_container_of_its_id",
        ("pyoci/container.py", 'if self._init and record and record["pid"]', "if not self"),
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
        "integration/test_create_steps.py::test_reused_pid_is_not_signalled "
        "security/test_reused_pids.py::test_it_is_not_signalled",
        ("pyoci/host/process.py", "if start_time(pid) != start:", "if start_time(pid) < 0:"),
    ),
    tooth(
        "19",
        "to the launcher a reused pid is not init",
        "security/test_reused_pids.py::test_it_is_not_signalled",
        ("libexec/verbs.c", "start_time(call->pid) == (unsigned long long)op->num[1]", "start_time(call->pid) > 0"),
    ),
    tooth(
        "19",
        "exec enters no process that has init's number",
        "security/test_reused_pids.py::test_it_is_not_entered",
        ("pyoci/container_exec.py", "if not self.init.running():", "if False:"),
    ),
    tooth(
        "19",
        "no name is looked up in a process that has init's number",
        "security/test_reused_pids.py::test_it_is_not_entered",
        ("pyoci/container_user.py", "if self._init and not self._init.running():", "if False:"),
    ),
    tooth(
        "19",
        "nothing is mounted in a process that has init's number",
        "security/test_reused_pids.py::test_it_is_not_entered",
        ("pyoci/container_mounts.py", "if not init.running():", "if False:"),
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
        ("libexec/nsexec.c", " || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0", ""),
        ("libexec/process.c", "if (ctx->sock >= 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)", "if (0)"),
    ),
    tooth(
        "20",
        "bpf(2) has room to write to",
        "security/test_bpf.py",
        ("pyoci/host/bpf.py", "ctypes.create_string_buffer(head, ATTR_SIZE)", "ctypes.create_string_buffer(head, 64)"),
    ),
    tooth(
        "20",
        "a device filter is replaced in one step",
        "integration/test_cgroup_host.py::test_v2_a_device_stays_shut_while_the_rules_change",
        (
            "pyoci/host/bpf.py",
            "flags, replaced = (ALLOW_MULTI | REPLACE, old[0]) if len(old) == 1 else (ALLOW_MULTI, 0)",
            'for fd in old:\n            _bpf(PROG_DETACH, struct.pack("<III", group, fd, CGROUP_DEVICE))\n'
            "        flags, replaced, old = ALLOW_MULTI, 0, []",
        ),
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
        "security/test_degraded.py::test_no_user_namespaces security/test_kill.py::test_nsexec_is_killed "
        "security/test_faults.py::test_each_call_fails_once",
        (
            "pyoci/container_create.py",
            "        shared.attempt(error, remove, self.directory, self.record, self.warnings)\n",
            "",
        ),
    ),
    tooth(
        "22",
        "capabilities that cannot be set are an error",
        "security/test_faults.py::test_each_call_fails_once",
        (
            "libexec/process.c",
            "return syscall(SYS_capset, &head, data) < 0 ? -errno : 0;",
            "syscall(SYS_capset, &head, data);\n	return 0;",
        ),
    ),
    tooth(
        "22",
        "a profile that cannot be loaded is an error",
        "security/test_faults.py::test_each_call_fails_once",
        ("libexec/process.c", "	if (r < 0)\n		return -errno;\n	return notify", "	return notify"),
    ),
    tooth(
        "22",
        "groups that cannot be dropped are an error",
        "security/test_faults.py::test_each_call_fails_once",
        (
            "libexec/process.c",
            "if (error == EPERM && (ctx->groups_denied || groups_denied(ctx)))",
            "if (error == EPERM)",
        ),
    ),
    tooth(
        "22",
        "an exec that ends half made is an error",
        "security/test_kill.py::test_nsexec_is_killed",
        ("pyoci/host/nsexec.py", ' or any(op.name == "fork" for op in self._plan[self._at + 1 :])', ""),
    ),
    tooth(
        "22",
        "too little address space is told",
        "security/test_degraded.py::test_little_address_space",
        ("libexec/launch.c", "|| limit.rlim_cur >= MEMORY_MIN)", "|| limit.rlim_cur >= 0)"),
    ),
    tooth(
        "22",
        "what guards nsexec is there or an error",
        "security/test_faults.py::test_each_call_fails_once",
        (
            "libexec/nsexec.c",
            "return prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ? -errno : 0;",
            "prctl(PR_SET_DUMPABLE, 0);\n	prctl(PR_SET_PDEATHSIG, SIGKILL);\n	return 0;",
        ),
    ),
    tooth(
        "22",
        "what fails in the undoing ends that step alone",
        "integration/test_create_steps.py::test_failure_of_a_step_of_the_undoing",
        (
            "pyoci/container_shared.py",
            '        error.add_note(f"while cleaning up: {str(second) or type(second).__name__}")\n',
            '        error.add_note(f"while cleaning up: {str(second) or type(second).__name__}")\n        raise\n',
        ),
    ),
    tooth(
        "24",
        "what a user namespace is given is locked",
        "security/test_locked_mounts.py::test_volumes security/test_locked_mounts.py::test_in_a_joined_user_namespace",
        ("pyoci/plan/__init__.py", 'if draft.locking and draft.namespaces.get("mount") == "":', "if False:"),
    ),
    tooth(
        "24",
        "what it is given later is locked",
        "security/test_locked_mounts.py::test_volumes_of_later",
        ("pyoci/plan/__init__.py", "    if draft.locking:\n", "    if False:\n"),
    ),
    tooth(
        "25",
        "what criu takes from the host's cgroups is given back",
        "unit/test_cgroup_options.py::test_they_are_put_back",
        ("pyoci/host/cgroup_options.py", "        if now != before:\n", "        if False:\n"),
    ),
    tooth(
        "25",
        "what is mounted in the host's cgroup namespace takes nothing from it",
        "unit/test_plan_mounts.py::test_m17_v2_in_a_joined_namespace_has_the_options_of_the_host",
        ("pyoci/plan/cgroupview.py", 'own = draft.namespaces.get("cgroup") == ""', "own = True"),
    ),
    tooth(
        "25",
        "of a cgroup only what the kernel lists is the container's",
        "integration/test_cgroup_host.py::test_v2_ownership",
        (
            "pyoci/host/cgroup_make.py",
            "        names = cgroupfs.read(listed).decode().split()\n",
            "        names = kernel.listdir(directory)\n",
        ),
    ),
    tooth(
        "22",
        "what the kernel refuses is not told to systemd",
        "unit/test_systemd_limits.py::test_update_that_fails_tells_nothing",
        (
            "pyoci/container_update.py",
            "    before = cgroup_values.before(writes)\n",
            "    before = cgroup_values.before(writes)\n    _tell_systemd(record, writes)\n",
        ),
    ),
    tooth(
        "22",
        "what systemd overwrites is given back",
        "unit/test_systemd_limits.py::test_update_gives_back_what_systemd_overwrote",
        ("pyoci/container_update.py", "    cgroup_make.apply(cgroup_values.changed(exact))\n", ""),
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
    tooth(
        "21",
        "without openat2 no symlink is followed to where devices are made",
        "security/test_paths.py::test_dev_is_a_symlink_to_a_volume security/test_paths.py::test_console_is_not_followed",
        ("libexec/paths.c", "w->follow == FOLLOW_NONE ? -ELOOP : walk_link(w, fd)", "walk_link(w, fd)"),
        ("libexec/paths.c", "!(last && w->follow != FOLLOW_ALL)", "!(last && w->follow == FOLLOW_WAY)"),
    ),
    tooth(
        "21",
        "without openat2 values are written through the verified procfs",
        "security/test_procfs.py::test_values_without_a_proc_of_the_container",
        (
            "libexec/paths.c",
            "		fd = openat(ctx->proc, path, flags | O_CLOEXEC | O_NOFOLLOW);",
            '		fd = openat(ctx->root < 0 ? ctx->proc : openat(ctx->root, "proc", O_PATH), path, flags | O_CLOEXEC);',
        ),
        ("libexec/paths.c", "if (!is_fs(fd, PROC_SUPER_MAGIC)) {", "if (false) {"),
    ),
    tooth(
        "23",
        "what a container mounts does not reach the host",
        "integration/test_mounts.py::test_mounts_in_what_was_added_stay_there",
        ("libexec/sources.c", "return r < 0 ? r : set_attr(fd, 0, 0, MS_SLAVE, true);", "return r;"),
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
    environment["COLUMNS"] = "400"  # for the reasons in the summary, which is what is shown
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
