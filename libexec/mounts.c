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
#define BIND_OWN_WAY 64

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

/* Bind what `source` refers to, with these attributes more, onto what `dest` refers to. */
int attach_clone(int source, int dest, uint64_t attributes)
{
	int tree = clone_at(source, "", AT_EMPTY_PATH), r;

	if (tree < 0)
		return tree;
	r = set_attr(tree, attributes, 0, 0, false);
	if (r == 0)
		r = attach(tree, dest);
	close(tree);
	return r;
}

int set_attr(int tree, uint64_t set, uint64_t clr, uint64_t propagation, bool recursive)
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
int set_attrs(int tree, const struct op *op, int first)
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
int clone_source(const char *path, int64_t flags)
{
	return clone_at(AT_FDCWD, path,
			(flags & BIND_RECURSIVE ? AT_RECURSIVE : 0) |
				(flags & (BIND_SOURCE_NOFOLLOW | BIND_COPY_SYMLINK) ? AT_SYMLINK_NOFOLLOW : 0));
}

/* Map the ids of a detached mount as the user namespace among the plan's descriptors says; number is
 * one more than its index, 0 is none. */
int set_idmap(struct ctx *ctx, int mnt, int64_t number, bool recursive)
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

/* -- new mounts ----------------------------------------------------------------------------- */

/* What of procfs may be mounted on: all of it at once, by another procfs (a root that comes with one), or a
 * file that lxcfs covers. */
enum over { OVER_NO_PROC, OVER_WHOLE_PROC, OVER_PROC };

static bool whole_proc(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_ino == 1;
}

/* Open, making it, the place where something is mounted.  Whatever the rootfs made of it with its
 * symlinks, it must not be the root, nor lie on procfs: a mount there hides or fakes what the kernel says
 * (CVE-2019-16884, CVE-2023-27561). */
static int mount_point(struct ctx *ctx, const char *dest, enum want want, enum follow follow, enum over over)
{
	int fd = path_create(ctx, dest, want, follow), r;
	bool over_proc;

	if (fd < 0)
		return fd;
	r = not_root(ctx, fd);
	over_proc = over == OVER_PROC || (over == OVER_WHOLE_PROC && whole_proc(fd));
	if (r == 0 && !over_proc && is_fs(fd, PROC_SUPER_MAGIC))
		r = detail(ctx, EPERM, "the destination lies on procfs");
	if (r == 0)
		return fd;
	close(fd);
	return r;
}

/* The operation that follows, if it is one of that code: then it is the one in hand. */
static const struct op *follows(struct ctx *ctx, uint16_t code)
{
	if (ctx->at + 1 >= ctx->plan.nops || ctx->plan.ops[ctx->at + 1].code != code)
		return NULL;
	return &ctx->plan.ops[++ctx->at];
}

/* One directory of a mount as a tree of its own (mount(8), X-mount.subdir).  What is attached nowhere cannot
 * be cloned, so it is attached meanwhile. */
static int subdir(struct ctx *ctx, const struct op *op, int mnt, int at)
{
	int r = attach(mnt, at), root = ctx->root, dir;
	struct stat st;

	if (r < 0)
		return r;
	ctx->root = mnt; /* its symlinks end in what is mounted there */
	dir = path_open(ctx, op->strs[1].data, false);
	ctx->root = root;
	r = dir >= 0 && fstat(dir, &st) == 0 && !S_ISDIR(st.st_mode) ? -ENOTDIR : dir;
	r = r < 0 ? detail(ctx, -r, "%s", op->strs[1].data) : clone_at(dir, "", AT_EMPTY_PATH | AT_RECURSIVE);
	if (dir >= 0)
		close(dir);
	if (r >= 0 && (fchdir(mnt) < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)) { /* it takes a path only */
		int error = errno;

		close(r);
		return -error;
	}
	return r;
}

/* Owner and mode of the root of a mount (mount(8), X-mount.owner and its kin); -1 leaves as it is. */
static int own(struct ctx *ctx, const struct op *op, int mnt)
{
	char self[32];

	snprintf(self, sizeof(self), "self/fd/%d", mnt);
	if ((op->num[0] >= 0 || op->num[1] >= 0) && fchownat(mnt, "", (uid_t)op->num[0], (gid_t)op->num[1], AT_EMPTY_PATH) < 0)
		return -errno;
	return op->num[2] >= 0 && fchmodat(ctx->proc, self, (mode_t)op->num[2], 0) < 0 ? -errno : 0;
}

/* Attach a mount, after what the operations that follow ask of it: subdir, own.  By then its path may lead to
 * another file, of which the container's neighbours must not become the owners.  attributes: what it gets last. */
static int place(struct ctx *ctx, int *mnt, int at, uint64_t attributes)
{
	const struct op *next = follows(ctx, OP_SUBDIR);
	int r;

	if (next) {
		r = subdir(ctx, next, *mnt, at);
		if (r < 0)
			return r;
		close(*mnt);
		*mnt = r;
	}
	next = follows(ctx, OP_OWN);
	r = next ? own(ctx, next, *mnt) : 0;
	if (r == 0)
		r = set_attr(*mnt, attributes, 0, 0, false);
	return r < 0 ? r : attach(*mnt, at);
}

/* These follow a mount, which has taken them along; a symlink that is copied is none. */
int op_beside(struct ctx *ctx, const struct op *op)
{
	(void)op;
	return detail(ctx, EINVAL, "nothing is mounted there");
}

/* Leave a mount open for `seal`: slot is one more than its, 0 for none. */
static int keep(struct ctx *ctx, int mnt, int64_t slot)
{
	if (slot < 0 || slot > MAX_TREES)
		return detail(ctx, EINVAL, "no slot %lld", (long long)slot - 1);
	if (slot && (ctx->trees[slot - 1] = fcntl(mnt, F_DUPFD_CLOEXEC, 3)) < 0)
		return -errno;
	return 0;
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
	uint64_t late = op->num[2] && flags & MS_RDONLY ? MOUNT_ATTR_RDONLY : 0; /* it is written to before */
	int mnt = fs_mount(ctx, op->strs[0].data, op->strs[1].data, late ? flags & ~(unsigned long)MS_RDONLY : flags,
			   op->strs[3].data);
	int r = mnt < 0 ? mnt : 0;

	if (r == -ENOENT && op->num[4])
		return 0; /* nofail: no such device */
	if (r == 0 && op->num[2] && existed)
		r = copy_up(at, mnt, op->num[2]);
	if (r == 0)
		r = set_idmap(ctx, mnt, op->num[3], false);
	if (r == 0)
		r = place(ctx, &mnt, at, late);
	if (r == 0)
		r = placed(ctx, op->strs[2].data, mnt);
	if (r == 0)
		r = keep(ctx, mnt, op->num[5]);
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
	at = mount_point(ctx, dest, WANT_DIR, kernel ? FOLLOW_WAY : FOLLOW_ALL,
			 strcmp(type, "proc") ? OVER_NO_PROC : OVER_WHOLE_PROC);
	if (at < 0)
		return at;
	if (fstat(at, &st) < 0 || (kernel && !S_ISDIR(st.st_mode)))
		r = detail(ctx, ENOTDIR, "%s must be mounted on an ordinary directory", type);
	else
		r = mount_at(ctx, op, at, existed);
	close(at);
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
				       flags & BIND_OVER_PROC ? OVER_PROC : OVER_NO_PROC)) >= 0) {
		r = set_attrs(tree, op, 2);
		if (r == 0)
			r = place(ctx, &tree, at, 0);
		if (r == 0)
			r = placed(ctx, op->strs[1].data, tree);
		if (r == 0)
			r = keep(ctx, tree, op->num[7]);
		close(at);
	} else if (flags & BIND_OWN_WAY) {
		r = path_not_ours(ctx, r);
	}
	close(tree);
	if (slot >= 0)
		ctx->trees[slot] = -1;
	return r;
}

int op_remount(struct ctx *ctx, const struct op *op)
{
	const char *dest = op->strs[0].data;
	int fd = strcmp(dest, "/") ? placed_open(ctx, dest) : path_open(ctx, dest, false), r;

	if (fd < 0)
		return fd;
	r = set_attrs(fd, op, 0);
	if (r == 0 && op->num[5])
		r = fs_reconfigure(ctx, fd, (unsigned long)op->num[6], (op->num[1] & MOUNT_ATTR_RDONLY) != 0, op->strs[1].data);
	close(fd);
	return r;
}

/* Make a mount read-only now that all is made in it: that mount, whatever its path leads to by now. */
int op_seal(struct ctx *ctx, const struct op *op)
{
	int64_t slot = op->num[0];
	int r;

	if (slot < 0 || slot >= MAX_TREES)
		return detail(ctx, EINVAL, "no slot %lld", (long long)slot);
	if (ctx->trees[slot] < 0)
		return 0; /* nofail: it is not there */
	r = set_attr(ctx->trees[slot], MOUNT_ATTR_RDONLY, 0, 0, false);
	close(ctx->trees[slot]);
	ctx->trees[slot] = -1;
	return r;
}

/* Is `fd` what is to be unmounted: the mount of that number, or, where none is known, what lies at that very
 * path?  The container's symlinks choose another, its renames too: one to /proc/kcore would take its mask away. */
static int is_wanted(struct ctx *ctx, const char *self, int fd, const struct op *op)
{
	const char *words = op->strs[0].data;
	int r = not_root(ctx, fd);
	char where[PATH_MAX];
	ssize_t n;

	if (r < 0)
		return r;
	if (op->num[0]) {
		r = mount_number(fd, op->num[0]);
		return r ? r : detail(ctx, EPERM, "another mount is there than the one that was added");
	}
	n = readlinkat(ctx->proc, self, where, sizeof(where));
	if (n != (ssize_t)strlen(words) || memcmp(where, words, (size_t)n))
		return detail(ctx, EPERM, "a symlink leads to another place");
	return 1;
}

/* Take the topmost mount of a path away, with what is mounted below it.  umount2(2) wants a path: the
 * link of our descriptor in our own procfs, since the one of the container is the container's. */
int op_umount(struct ctx *ctx, const struct op *op)
{
	int r, fd = path_open(ctx, op->strs[0].data, false);
	char self[32];

	if (fd < 0)
		return fd;
	snprintf(self, sizeof(self), "self/fd/%d", fd);
	r = is_wanted(ctx, self, fd, op);
	if (r > 0)
		r = fchdir(ctx->proc) < 0 || umount2(self, MNT_DETACH) < 0 ? -errno : 0;
	close(fd);
	return r == -EINVAL ? detail(ctx, EINVAL, "nothing is mounted there") : r;
}

/* Cover a path with nothing: a file with the host's null device, a directory with an empty
 * read-only tmpfs.  Both are ours, never the rootfs's (CVE-2025-31133).  Read-only, a device can be
 * written to all the same; but root of the container cannot change the mode of the host's. */
int op_mask(struct ctx *ctx, const struct op *op)
{
	int r, mnt, fd = path_open(ctx, op->strs[0].data, false);
	struct stat st;

	if (fd == -ENOENT || fd == -ENOTDIR)
		return 0;
	if (fd < 0)
		return fd;
	if ((r = not_root(ctx, fd)) < 0 || fstat(fd, &st) < 0) {
		r = r < 0 ? r : -errno;
	} else if (!S_ISDIR(st.st_mode)) {
		r = attach_clone(ctx->null, fd, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
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
	r = not_root(ctx, fd);
	tree = r < 0 ? r : clone_at(fd, "", AT_EMPTY_PATH | AT_RECURSIVE);
	r = tree < 0 ? tree : set_attr(tree, MOUNT_ATTR_RDONLY, 0, 0, false);
	if (r == 0)
		r = attach(tree, fd);
	if (r == 0)
		r = placed(ctx, op->strs[0].data, tree);
	if (tree >= 0)
		close(tree);
	close(fd);
	return r;
}
