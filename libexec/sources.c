/* Sources of bind mounts, opened with the host's rights.  A container with a user namespace of its own must
 * not undo what the host did to them: make writable what is read-only there, take away what covers a part.
 * The kernel sees to that for the mounts that a new mount namespace is given by a more privileged user
 * namespace: their flags, and each to the one below it, are locked.  A tree that is opened on the host
 * would come without: so they are mounted in a mount namespace in between, which is then copied. */
#include "nsexec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define TREE_IDMAP_ALL 64 /* tree.flags of pyoci/plan/ops.py */

int op_tree(struct ctx *ctx, const struct op *op)
{
	int64_t slot = op->num[0], flags = op->num[1];
	int fd, r;

	if (slot < 0 || slot >= MAX_TREES)
		return detail(ctx, EINVAL, "no slot %lld", (long long)slot);
	fd = clone_source(op->strs[0].data, flags);
	if (fd == -ENOENT && flags & BIND_OPTIONAL)
		return 0;
	if (fd < 0)
		return fd;
	ctx->trees[slot] = fd;
	r = set_idmap(ctx, fd, op->num[2], (flags & TREE_IDMAP_ALL) != 0);
	/* here, since later they are locked */
	if (r == 0)
		r = set_attrs(fd, op, 3);
	/* a copy of a shared mount is its peer: what is mounted in the container must not go to the host */
	return r < 0 ? r : set_attr(fd, 0, 0, MS_SLAVE, true);
}

/* Mount a tree on an entry of its own in the directory. */
static int add(int dir, int tree, const char *name)
{
	struct stat st;
	int at, r;

	if (fstat(tree, &st) < 0 || (S_ISDIR(st.st_mode) ? mkdirat(dir, name, 0700) : mknodat(dir, name, S_IFREG | 0600, 0)) < 0)
		return -errno;
	at = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (at < 0)
		return -errno;
	r = attach(tree, at);
	close(at);
	return r;
}

/* In the mount namespace in between, put all trees into a tmpfs on the given directory, and go there: the
 * working directory is what leads to them when the namespace has been copied.  The user namespace has no
 * right to read a directory of the host's root, so it may be searched by everybody; nobody else sees it. */
int op_gather(struct ctx *ctx, const struct op *op)
{
	char name[16];
	int at = open(op->strs[0].data, O_PATH | O_DIRECTORY | O_CLOEXEC), dir, r;

	if (at < 0)
		return -errno;
	r = dir = fs_mount(ctx, "tmpfs", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=711");
	if (r >= 0)
		r = attach(dir, at);
	for (int i = 0; i < MAX_TREES && r == 0; i++) {
		if (ctx->trees[i] < 0)
			continue;
		snprintf(name, sizeof(name), "%d", i);
		r = add(dir, ctx->trees[i], name);
		close(ctx->trees[i]);
		ctx->trees[i] = -1;
		ctx->gathered[i] = true;
	}
	if (r == 0 && fchdir(dir) < 0)
		r = -errno;
	if (dir >= 0)
		close(dir);
	close(at);
	return r;
}

/* In the copy of that namespace: open them again, locked as they are now. */
int op_take(struct ctx *ctx, const struct op *op)
{
	char name[16];

	(void)op;
	for (int i = 0; i < MAX_TREES; i++) {
		if (!ctx->gathered[i])
			continue;
		snprintf(name, sizeof(name), "%d", i);
		ctx->gathered[i] = false;
		ctx->trees[i] = clone_at(AT_FDCWD, name, AT_RECURSIVE | AT_SYMLINK_NOFOLLOW);
		if (ctx->trees[i] < 0)
			return ctx->trees[i];
	}
	return chdir("/") < 0 ? -errno : 0;
}
