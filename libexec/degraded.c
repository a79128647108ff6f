/* Kernels that lack a call, and seccomp filters around us that refuse one: old container engines
 * answer EPERM for what they do not know.  What has another way takes it, here or in paths.c; what
 * has none is named in the error. */
#include "nsexec.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Close the descriptors first..last.  Never half of it in silence: a descriptor of the host that
 * stays open is a way out (CVE-2024-21626). */
int close_span(const struct ctx *ctx, unsigned first, unsigned last)
{
	struct dirent *entry;
	DIR *dir;
	int fd;

	if (first > last || close_range(first, last, 0) == 0)
		return 0;
	fd = openat(ctx->proc, "self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		return -errno;
	while ((errno = 0, entry = readdir(dir))) {
		unsigned long number = strtoul(entry->d_name, NULL, 10);

		if (entry->d_name[0] != '.' && number >= first && number <= last && (int)number != fd)
			close((int)number);
	}
	fd = -errno;
	closedir(dir);
	return fd;
}

/* The calls without another way, and the operations that make them.  Made with arguments that no
 * kernel takes: EINVAL or the like from one that has the call, ENOSYS or EPERM from one without. */
static const struct {
	const char *name;
	long number;
	uint16_t first, last; /* operations */
} needed[] = {
	{ "statx", SYS_statx, OP_ROOTFS, OP_TAKE },
	{ "open_tree", SYS_open_tree, OP_TREE, OP_TAKE },
	{ "move_mount", SYS_move_mount, OP_TREE, OP_TAKE },
	{ "mount_setattr", SYS_mount_setattr, OP_TREE, OP_TAKE },
	{ "fsopen", SYS_fsopen, OP_MOUNT, OP_TAKE },
	{ "fsconfig", SYS_fsconfig, OP_MOUNT, OP_TAKE },
	{ "fsmount", SYS_fsmount, OP_MOUNT, OP_TAKE },
	{ "seccomp", SYS_seccomp, OP_SECCOMP, OP_SECCOMP },
	{ "pidfd_open", SYS_pidfd_open, OP_HOOK, OP_HOOK },
};

static bool refused(long number, int error)
{
	return syscall(number, -1, -1, -1, -1, -1, -1) < 0 && errno == error;
}

/* The operation in hand failed with ENOSYS or EPERM: say which call it was, if it was one of these. */
void name_refused(struct ctx *ctx, int error)
{
	uint16_t code = ctx->at < ctx->plan.nops ? ctx->plan.ops[ctx->at].code : 0;

	if (error != ENOSYS && error != EPERM)
		return;
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		if (code >= needed[i].first && code <= needed[i].last && refused(needed[i].number, error)) {
			detail(ctx, error, "%s(2)", needed[i].name);
			return;
		}
}
