/* The container's root: where it lies, and how the host's tree is left for it. */
#include "nsexec.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PIVOT_ROOT 0
#define PIVOT_MOVE 1

int op_propagation(struct ctx *ctx, const struct op *op)
{
	(void)ctx;
	return mount(NULL, "/", NULL, (unsigned long)op->num[0], NULL) < 0 ? -errno : 0;
}

/* Whichever mount holds the path: make it private, so that what is mounted on the root does not
 * spread to the host (rootfsPropagation shared) and pivot_root(2) accepts it. */
static void make_parent_private(const char *path)
{
	char real[PATH_MAX];

	if (!realpath(path, real))
		return;
	while (mount(NULL, *real ? real : "/", NULL, MS_PRIVATE, NULL) < 0 && errno == EINVAL && *real) {
		char *slash = strrchr(real, '/');

		if (!slash)
			return;
		*slash = 0;
	}
}

/* The null device that covers masked files: the host's, opened in the mount namespace of the
 * container (a mount of another namespace cannot be cloned) before the host's tree is left. */
static int open_null(struct ctx *ctx)
{
	ctx->null = open("/dev/null", O_PATH | O_CLOEXEC);
	if (ctx->null < 0 || !is_device(ctx->null, 1, 3))
		return detail(ctx, ENODEV, "/dev/null is not the null device");
	return 0;
}

/* A root that comes with a /dev of its own mounted. */
static int own_dev(struct ctx *ctx)
{
	int dev = path_open(ctx, "/dev", true), r;

	if (dev < 0)
		return 0;
	r = placed(ctx, "/dev", dev);
	close(dev);
	return r;
}

int op_rootfs(struct ctx *ctx, const struct op *op)
{
	int dir, tree, r = open_null(ctx);

	if (r < 0)
		return r;
	if (op->num[1])
		make_parent_private(op->strs[0].data);
	dir = open(op->strs[0].data, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	if (!op->num[0]) {
		ctx->root = dir;
		return own_dev(ctx);
	}
	tree = clone_at(dir, "", AT_EMPTY_PATH | AT_RECURSIVE);
	r = tree < 0 ? tree : attach(tree, dir);
	close(dir);
	if (r < 0)
		return r;
	ctx->root = tree;
	return own_dev(ctx);
}

/* exec: the root is that of the namespace we joined. */
int op_root_here(struct ctx *ctx, const struct op *op)
{
	(void)op;
	ctx->root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return ctx->root < 0 ? -errno : 0;
}

/* Leave the host's tree.  From here on nothing of the host has a path. */
int op_pivot(struct ctx *ctx, const struct op *op)
{
	int64_t mode = op->num[0];

	if (fchdir(ctx->root) < 0)
		return -errno;
	if (mode == PIVOT_ROOT) {
		int old = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), r = 0;

		if (old < 0)
			return -errno;
		/* "." twice: the old root ends up mounted over the new one, and needs no directory in it */
		if (syscall(SYS_pivot_root, ".", ".") < 0)
			r = -errno;
		else if (fchdir(old) < 0 || mount(NULL, ".", NULL, MS_SLAVE | MS_REC, NULL) < 0 ||
			 umount2(".", MNT_DETACH) < 0)
			r = -errno;
		close(old);
		if (r < 0)
			return r;
	} else {
		if (mode == PIVOT_MOVE && mount(".", "/", NULL, MS_MOVE, NULL) < 0)
			return -errno;
		if (chroot(".") < 0)
			return -errno;
	}
	return chdir("/") < 0 ? -errno : 0;
}
