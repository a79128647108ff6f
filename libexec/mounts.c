/* Mounts: everything is built as a detached tree and attached to a descriptor, so that no path
 * is looked up twice and no attribute is ever missing on a mount that can be seen. */
#include "nsexec.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* bind.flags of pyoci/plan/ops.py */
#define BIND_RECURSIVE 1
#define BIND_SOURCE_NOFOLLOW 2
#define BIND_DEST_NOFOLLOW 4
#define BIND_COPY_SYMLINK 8
#define BIND_OVER_PROC 16
#define BIND_OPTIONAL 32
#define BIND_OWN_WAY 64
#define TREE_IDMAP_ALL 64

/* mount.copyup */
#define COPY_CONTENT 1
#define COPY_OWNER 2
#define COPY_MODE 4

int clone_at(int dir, const char *path, int flags)
{
	int fd = open_tree(dir, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (unsigned)flags);

	return fd < 0 ? -errno : fd;
}

int attach(int tree, int dest)
{
	return move_mount(tree, "", dest, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0 ? -errno : 0;
}

/* Bind what `source` refers to onto what `dest` refers to. */
int attach_clone(int source, int dest, bool recursive)
{
	int tree = clone_at(source, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0)), r;

	if (tree < 0)
		return tree;
	r = attach(tree, dest);
	close(tree);
	return r;
}

static int set_attr(int tree, uint64_t set, uint64_t clr, uint64_t propagation, bool recursive)
{
	struct mount_attr attr = { .attr_set = set, .attr_clr = clr, .propagation = propagation };

	if (!set && !clr && !propagation)
		return 0;
	/* the access-time modes are one field: whoever sets one must clear all */
	if (set & (MOUNT_ATTR_NOATIME | MOUNT_ATTR_STRICTATIME))
		attr.attr_clr |= MOUNT_ATTR__ATIME;
	if (mount_setattr(tree, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr, sizeof(attr)) < 0)
		return -errno;
	return 0;
}

/* The attributes an op carries: attr_set attr_clr rec_set rec_clr propagation, from num[first] on. */
static int set_attrs(int tree, const struct op *op, int first)
{
	const int64_t *n = op->num + first;
	uint64_t propagation = (uint64_t)n[4];
	bool deep = propagation & MS_REC;
	int r;

	/* a slave keeps receiving, so it must be one before it may be shared again */
	r = set_attr(tree, (uint64_t)n[2], (uint64_t)n[3], deep ? propagation & ~(uint64_t)MS_REC : 0, true);
	if (r == 0)
		r = set_attr(tree, (uint64_t)n[0], (uint64_t)n[1], deep ? 0 : propagation, false);
	return r;
}

/* Clone what a bind mount shows: the tree, or the one mount. */
static int clone_source(const char *path, int64_t flags)
{
	return clone_at(AT_FDCWD, path,
			(flags & BIND_RECURSIVE ? AT_RECURSIVE : 0) |
				(flags & (BIND_SOURCE_NOFOLLOW | BIND_COPY_SYMLINK) ? AT_SYMLINK_NOFOLLOW : 0));
}

/* Map the ids of a detached mount as the user namespace among the plan's descriptors says; number is
 * one more than its index, 0 is none. */
static int set_idmap(struct ctx *ctx, int mnt, int64_t number, bool recursive)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_IDMAP };

	if (!number)
		return 0;
	if (number < 0 || number > ctx->nfds)
		return detail(ctx, EINVAL, "no descriptor %lld", (long long)number - 1);
	attr.userns_fd = (uint64_t)ctx->fds[number - 1];
	if (mount_setattr(mnt, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr, sizeof(attr)) < 0)
		return detail(ctx, errno, "map the ids");
	return 0;
}

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
	/* a copy of a shared mount is its peer: what is mounted in the container must not go to the host */
	return r < 0 ? r : set_attr(fd, 0, 0, MS_SLAVE, true);
}

/* -- new mounts ----------------------------------------------------------------------------- */

/* Open, making it, the place where something is mounted.  Whatever the rootfs made of it with its
 * symlinks, it must not lie on procfs: a mount there hides or fakes what the kernel says
 * (CVE-2019-16884, CVE-2023-27561). */
static int mount_point(struct ctx *ctx, const char *dest, enum want want, enum follow follow, bool over_proc)
{
	int fd = path_create(ctx, dest, want, follow);

	if (fd >= 0 && !over_proc && is_fs(fd, PROC_SUPER_MAGIC)) {
		close(fd);
		return detail(ctx, EPERM, "the destination lies on procfs");
	}
	return fd;
}

/* A new tmpfs takes over from the directory it covers: what is in it, its owner, its mode, as asked. */
static int copy_up(int from, int to, int64_t what)
{
	struct stat st;
	int r = what & COPY_CONTENT ? copy_tree(from, to) : 0;

	if (r < 0 || fstat(from, &st) < 0)
		return r < 0 ? r : -errno;
	if (what & COPY_OWNER && fchownat(to, "", st.st_uid, st.st_gid, AT_EMPTY_PATH) < 0)
		return -errno;
	if (what & COPY_MODE && fchmodat(to, ".", st.st_mode & 07777, 0) < 0)
		return -errno;
	return 0;
}

/* Make the mount and all that is said of it, attach it to `at`.  existed: `at` was there before us. */
static int mount_at(struct ctx *ctx, const struct op *op, int at, bool existed)
{
	unsigned long flags = (unsigned long)op->num[0], propagation = (unsigned long)op->num[1];
	int mnt = fs_mount(ctx, op->strs[0].data, op->strs[1].data, flags, op->strs[3].data);
	int r = mnt < 0 ? mnt : 0;

	if (r == -ENOENT && op->num[4])
		return 0; /* nofail: no such device */
	if (r == 0 && op->num[2] && existed)
		r = copy_up(at, mnt, op->num[2]);
	if (r == 0)
		r = set_idmap(ctx, mnt, op->num[3], false);
	if (r == 0)
		r = attach(mnt, at);
	if (r == 0 && propagation)
		r = set_attr(mnt, 0, 0, propagation & ~(unsigned long)MS_REC, (propagation & MS_REC) != 0);
	if (mnt >= 0)
		close(mnt);
	return r;
}

int op_mount(struct ctx *ctx, const struct op *op)
{
	const char *type = op->strs[0].data, *dest = op->strs[2].data;
	/* a /proc or /sys that is a symlink would put them somewhere else */
	bool kernel = !strcmp(type, "proc") || !strcmp(type, "sysfs"), existed;
	struct stat st;
	int r, at;

	at = path_open(ctx, dest, kernel);
	existed = at >= 0;
	if (existed)
		close(at);
	at = mount_point(ctx, dest, WANT_DIR, kernel ? FOLLOW_WAY : FOLLOW_ALL, false);
	if (at < 0)
		return at;
	if (fstat(at, &st) < 0 || (kernel && !S_ISDIR(st.st_mode)))
		r = detail(ctx, ENOTDIR, "%s must be mounted on an ordinary directory", type);
	else
		r = mount_at(ctx, op, at, existed);
	close(at);
	return r;
}

/* Show one directory of what is mounted on a path in its place (mount(8), X-mount.subdir). */
int op_subdir(struct ctx *ctx, const struct op *op)
{
	int mnt = path_open(ctx, op->strs[0].data, false), dir = -1, tree = -1, at = -1, r = mnt, root = ctx->root;
	struct stat st;

	if (mnt >= 0) {
		ctx->root = mnt; /* its symlinks end in what is mounted there */
		dir = path_open(ctx, op->strs[1].data, false);
		ctx->root = root;
		r = dir >= 0 && fstat(dir, &st) == 0 && !S_ISDIR(st.st_mode) ? -ENOTDIR : dir;
		if (r < 0)
			r = detail(ctx, -r, "%s", op->strs[1].data);
	}
	if (r >= 0)
		r = tree = clone_at(dir, "", AT_EMPTY_PATH | AT_RECURSIVE);
	if (r >= 0) /* umount2(2) takes a path only */
		r = fchdir(mnt) < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0 ? -errno : 0;
	if (r >= 0)
		r = at = path_open(ctx, op->strs[0].data, false);
	if (r >= 0)
		r = attach(tree, at);
	for (int i = 0, fds[] = { mnt, dir, tree, at }; i < 4; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	return r;
}

/* Owner and mode of the root of a mount (mount(8), X-mount.owner and its kin); -1 leaves as it is. */
int op_own(struct ctx *ctx, const struct op *op)
{
	int fd = path_open(ctx, op->strs[0].data, false), r = 0;
	char self[32];

	if (fd < 0)
		return fd;
	snprintf(self, sizeof(self), "self/fd/%d", fd);
	if ((op->num[0] >= 0 || op->num[1] >= 0) && fchownat(fd, "", (uid_t)op->num[0], (gid_t)op->num[1], AT_EMPTY_PATH) < 0)
		r = -errno;
	if (r == 0 && op->num[2] >= 0 && fchmodat(ctx->proc, self, (mode_t)op->num[2], 0) < 0)
		r = -errno;
	close(fd);
	return r;
}

/* -- binds ----------------------------------------------------------------------------------- */

static bool same_link(int dir, const char *name, const char *target)
{
	char there[PATH_MAX];
	ssize_t n = readlinkat(dir, name, there, sizeof(there) - 1);

	return n >= 0 && (size_t)n == strlen(target) && !memcmp(there, target, (size_t)n);
}

/* The option copy-symlink: a source that is a symlink is made again at the destination. */
static int copy_symlink(struct ctx *ctx, const struct op *op, int source)
{
	char target[PATH_MAX], name[256];
	ssize_t n = readlinkat(source, "", target, sizeof(target) - 1);
	int dir, r = 0;

	if (n < 0)
		return -errno;
	target[n] = 0;
	dir = path_parent(ctx, op->strs[1].data, FOLLOW_ALL, name);
	if (dir < 0)
		return dir;
	if (symlinkat(target, dir, name) < 0)
		r = -errno;
	if (r == -EEXIST && same_link(dir, name, target))
		r = 0;
	close(dir);
	return r;
}

int op_bind(struct ctx *ctx, const struct op *op)
{
	int64_t slot = op->num[0], flags = op->num[1];
	struct stat st;
	int tree, at, r;

	if (slot >= MAX_TREES)
		return -EINVAL;
	tree = slot >= 0 ? ctx->trees[slot] : clone_source(op->strs[0].data, flags);
	if (flags & BIND_OPTIONAL && (slot >= 0 ? tree < 0 : tree == -ENOENT))
		return 0;
	if (tree < 0)
		return slot >= 0 ? -EBADF : detail(ctx, -tree, "source %s", op->strs[0].data);
	if (fstat(tree, &st) < 0)
		r = -errno;
	else if (S_ISLNK(st.st_mode) && flags & BIND_COPY_SYMLINK)
		r = copy_symlink(ctx, op, tree);
	else if ((r = at = mount_point(ctx, op->strs[1].data, S_ISDIR(st.st_mode) ? WANT_DIR : WANT_FILE,
				       flags & BIND_OWN_WAY ? FOLLOW_NONE : flags & BIND_DEST_NOFOLLOW ? FOLLOW_WAY : FOLLOW_ALL,
				       (flags & BIND_OVER_PROC) != 0)) >= 0) {
		r = set_attrs(tree, op, 2);
		if (r == 0)
			r = attach(tree, at);
		close(at);
	}
	close(tree);
	if (slot >= 0)
		ctx->trees[slot] = -1;
	return r;
}

int op_remount(struct ctx *ctx, const struct op *op)
{
	int fd = path_open(ctx, op->strs[0].data, false), r;

	if (fd < 0)
		return fd;
	r = set_attrs(fd, op, 0);
	if (r == 0 && op->num[5])
		r = fs_reconfigure(ctx, fd, (unsigned long)op->num[6], (op->num[1] & MOUNT_ATTR_RDONLY) != 0, op->strs[1].data);
	close(fd);
	return r;
}

/* Take the topmost mount of a path away, with what is mounted below it.  umount2(2) wants a path: the
 * link of our descriptor in our own procfs, since the one of the container is the container's. */
int op_umount(struct ctx *ctx, const struct op *op)
{
	int r = 0, fd = path_open(ctx, op->strs[0].data, false);
	char self[32];

	if (fd < 0)
		return fd;
	snprintf(self, sizeof(self), "self/fd/%d", fd);
	if (fchdir(ctx->proc) < 0 || umount2(self, MNT_DETACH) < 0)
		r = -errno;
	close(fd);
	return r == -EINVAL ? detail(ctx, EINVAL, "nothing is mounted there") : r;
}

/* Cover a path with nothing: a file with the host's null device, a directory with an empty
 * read-only tmpfs.  Both are ours, never the rootfs's (CVE-2025-31133). */
int op_mask(struct ctx *ctx, const struct op *op)
{
	int r, mnt, fd = path_open(ctx, op->strs[0].data, false);
	struct stat st;

	if (fd == -ENOENT || fd == -ENOTDIR)
		return 0;
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0) {
		r = -errno;
	} else if (!S_ISDIR(st.st_mode)) {
		r = attach_clone(ctx->null, fd, false);
	} else {
		mnt = fs_mount(ctx, "tmpfs", "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k,nr_inodes=1");
		r = mnt < 0 ? mnt : attach(mnt, fd);
		if (mnt >= 0)
			close(mnt);
	}
	close(fd);
	return r;
}

int op_readonly(struct ctx *ctx, const struct op *op)
{
	int r, tree, fd = path_open(ctx, op->strs[0].data, false);

	if (fd == -ENOENT || fd == -ENOTDIR)
		return 0;
	if (fd < 0)
		return fd;
	tree = clone_at(fd, "", AT_EMPTY_PATH | AT_RECURSIVE);
	r = tree < 0 ? tree : set_attr(tree, MOUNT_ATTR_RDONLY, 0, 0, false);
	if (r == 0)
		r = attach(tree, fd);
	if (tree >= 0)
		close(tree);
	close(fd);
	return r;
}
