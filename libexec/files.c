/* Files the runtime makes in the container: directories, devices, links, the terminal; and what it
 * writes to the kernel's own files.  A name is always made in an open directory and never followed. */
#include "nsexec.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <termios.h>
#include <unistd.h>

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

/* flags of symlink and mknod */
#define REPLACE 1
#define KEEP 2
#define OWN_WAY 4 /* a symlink on the way is an error, and a mount that the config put somewhere else */

#define COPY_DEPTH 100 /* tmpcopyup: directories below this are not copied but refused */

int op_mkdir(struct ctx *ctx, const struct op *op)
{
	int fd;

	ctx->mkdir_mode = (mode_t)op->num[0];
	fd = path_create(ctx, op->strs[0].data, WANT_DIR, FOLLOW_ALL);
	ctx->mkdir_mode = 0;
	if (fd < 0)
		return op->num[1] ? 0 : fd;
	close(fd);
	return 0;
}

/* Is what stands at `name` the device we were going to make? */
static bool same_node(int dir, const char *name, mode_t mode, dev_t dev)
{
	struct stat st;

	return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && (st.st_mode & S_IFMT) == (mode & S_IFMT) &&
	       (S_ISFIFO(mode) || st.st_rdev == dev);
}

/* Owner and mode of the node just made, through a descriptor that cannot have become another file. */
static int own_node(int dir, const char *name, mode_t mode, dev_t dev, int64_t uid, int64_t gid)
{
	int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC), r = 0;
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || (st.st_mode & S_IFMT) != (mode & S_IFMT) || (!S_ISFIFO(mode) && st.st_rdev != dev))
		r = -EEXIST;
	else if ((uid >= 0 || gid >= 0) && fchownat(fd, "", (uid_t)uid, (gid_t)gid, AT_EMPTY_PATH) < 0)
		r = -errno;
	close(fd);
	return r;
}

/* The directory that a name is made in: a file descriptor or -errno. */
static int directory_for(struct ctx *ctx, const char *path, int64_t flags, char name[256])
{
	int dir = path_parent(ctx, path, flags & OWN_WAY ? FOLLOW_NONE : FOLLOW_ALL, name);
	struct stat st;

	/* a link in the place of the directory itself comes out as what it is */
	if (dir >= 0 && fstat(dir, &st) == 0 && !S_ISDIR(st.st_mode)) {
		close(dir);
		dir = -ELOOP;
	}
	return flags & OWN_WAY ? path_not_ours(ctx, dir) : dir;
}

int op_mknod(struct ctx *ctx, const struct op *op)
{
	mode_t mode = (mode_t)op->num[0];
	dev_t dev = makedev((unsigned)op->num[1], (unsigned)op->num[2]);
	char name[256];
	int dir = directory_for(ctx, op->strs[0].data, op->num[5], name), r;

	if (dir < 0)
		return dir;
	r = mknodat(dir, name, mode, dev) < 0 ? -errno : 0;
	if (r == -EEXIST && same_node(dir, name, mode, dev)) {
		close(dir);
		return 0;
	}
	if (r == -EEXIST && op->num[5] & KEEP)
		r = 0;
	else if (r == -EEXIST && op->num[5] & REPLACE)
		r = unlinkat(dir, name, 0) < 0 || mknodat(dir, name, mode, dev) < 0 ? -errno : 0;
	else if (r == -EEXIST)
		detail(ctx, EEXIST, "another file is there");
	if (r == 0)
		r = own_node(dir, name, mode, dev, op->num[3], op->num[4]);
	close(dir);
	return r;
}

int op_symlink(struct ctx *ctx, const struct op *op)
{
	const char *target = op->strs[0].data;
	char name[256];
	int dir = directory_for(ctx, op->strs[1].data, op->num[0], name), r;

	if (dir < 0)
		return dir;
	r = symlinkat(target, dir, name) < 0 ? -errno : 0;
	if (r == -EEXIST && op->num[0] & KEEP)
		r = 0;
	else if (r == -EEXIST && op->num[0] & REPLACE)
		r = unlinkat(dir, name, 0) < 0 || symlinkat(target, dir, name) < 0 ? -errno : 0;
	close(dir);
	return r;
}

int op_sysctl(struct ctx *ctx, const struct op *op)
{
	char path[512];
	int fd, r;

	if ((size_t)snprintf(path, sizeof(path), "sys/%s", op->strs[0].data) >= sizeof(path))
		return -ENAMETOOLONG;
	fd = proc_open(ctx, path, O_WRONLY);
	if (fd < 0)
		return fd;
	r = write_all(fd, op->strs[1].data, op->strs[1].len);
	close(fd);
	return r;
}

/* -- the terminal ---------------------------------------------------------------------------- */

/* Open the multiplexer of the container's devpts: recognised by number and file system, whatever
 * path led to it (CVE-2025-52565). */
static int open_ptmx(struct ctx *ctx)
{
	static const char *const paths[] = { "/dev/pts/ptmx", "/dev/ptmx" };
	char self[32];
	int fd, master = -1;

	for (size_t i = 0; i < 2 && master < 0; i++) {
		fd = path_open(ctx, paths[i], false);
		if (fd < 0)
			continue;
		snprintf(self, sizeof(self), "self/fd/%d", fd);
		if (is_device(fd, 5, 2))
			master = openat(ctx->proc, self, O_RDWR | O_NOCTTY | O_CLOEXEC);
		close(fd);
	}
	if (master < 0)
		return detail(ctx, ENOENT, "no devpts: mount one on /dev/pts");
	return master;
}

/* Put the terminal on /dev/console, as a file of its own and never through a link. */
static int bind_console(struct ctx *ctx, int slave)
{
	int at = path_create(ctx, "/dev/console", WANT_FILE, FOLLOW_NONE), r;
	struct stat st;

	if (at < 0)
		return path_not_ours(ctx, at);
	if (fstat(at, &st) < 0 || !(S_ISREG(st.st_mode) || S_ISCHR(st.st_mode)))
		r = detail(ctx, ELOOP, "/dev/console of the root file system is neither file nor device");
	else
		r = attach_clone(slave, at, 0);
	close(at);
	return r;
}

int op_console(struct ctx *ctx, const struct op *op)
{
	struct winsize size = { .ws_row = (unsigned short)op->num[0], .ws_col = (unsigned short)op->num[1] };
	int master = open_ptmx(ctx), slave, unlock = 0, r = 0;

	if (master < 0)
		return master;
	/* the peer comes from the master itself: /dev/pts/N may be anything */
	if (ioctl(master, TIOCSPTLCK, &unlock) < 0 ||
	    (slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0) {
		r = -errno;
		close(master);
		return r;
	}
	if ((size.ws_row || size.ws_col) && ioctl(slave, TIOCSWINSZ, &size) < 0)
		r = -errno;
	if (r == 0 && op->num[2] >= 0 && fchown(slave, (uid_t)op->num[2], (gid_t)-1) < 0 && errno != EPERM && errno != EINVAL)
		r = -errno;
	if (r == 0 && op->num[3])
		r = bind_console(ctx, slave);
	for (int i = 0; i < 3 && r == 0; i++)
		r = dup2(slave, i) < 0 ? -errno : 0;
	close(slave);
	if (r == 0)
		send_msg(ctx, MSG_CONSOLE, 0, "", master);
	close(master);
	return r;
}

/* The session's own terminal: apart from `console`, since only the leader of the session may take it. */
int op_ctty(struct ctx *ctx, const struct op *op)
{
	(void)ctx;
	(void)op;
	/* EIO: whoever got the other end has closed it already, and there is no terminal any more */
	return ioctl(0, TIOCSCTTY, 0) < 0 && errno != EIO ? -errno : 0;
}

/* Standard streams that are the host's null device become the container's own: by the descriptor, its root
 * could change the mode of the host's.  Where it has none that can be opened they stay. */
int op_streams(struct ctx *ctx, const struct op *op)
{
	int null = path_open(ctx, "/dev/null", false), r = 0;
	char self[32];

	(void)op;
	if (null < 0)
		return 0;
	snprintf(self, sizeof(self), "self/fd/%d", null);
	for (int i = 0; i < 3 && r == 0 && is_device(null, 1, 3); i++) {
		int fd = is_device(i, 1, 3) ? openat(ctx->proc, self, fcntl(i, F_GETFL) | O_NOCTTY | O_CLOEXEC) : -1;

		if (fd >= 0) {
			r = dup2(fd, i) < 0 ? -errno : 0;
			close(fd);
		}
	}
	close(null);
	return r;
}

/* -- tmpcopyup ------------------------------------------------------------------------------- */

static int copy_dir(int from, int to, int depth);

static int copy_regular(int from, int to)
{
	ssize_t n;

	while ((n = sendfile(to, from, NULL, 1 << 30)) > 0)
		;
	return n < 0 ? -errno : 0;
}

/* Owner and mode of a copy; the mode last, since chown clears set-id bits. */
static int copy_owner(int to, const char *name, const struct stat *st)
{
	if (fchownat(to, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISLNK(st->st_mode) && fchmodat(to, name, st->st_mode & 07777, 0) < 0)
		return -errno;
	return 0;
}

/* Extended attributes, file capabilities among them; what a tmpfs cannot hold stays behind. */
static int copy_xattrs(int from, int to)
{
	static char names[65536], value[65536]; /* XATTR_LIST_MAX, XATTR_SIZE_MAX */
	ssize_t n = flistxattr(from, names, sizeof(names));

	for (const char *name = names; n > 0 && name < names + n; name += strlen(name) + 1) {
		ssize_t size = fgetxattr(from, name, value, sizeof(value));

		if (size >= 0 && fsetxattr(to, name, value, (size_t)size, 0) < 0 && errno != ENOTSUP && errno != EPERM)
			return -errno;
	}
	return 0;
}

/* Copy a file that can be opened: a directory or a regular file.  What is said of it, in *st, is that of the
 * file which was opened, or the owner and mode of one would come with what is in another. */
static int copy_open(int from, int to, const char *name, struct stat *st, int depth)
{
	bool dir = S_ISDIR(st->st_mode);
	int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (dir ? O_DIRECTORY : 0));
	int out, r;

	if (in < 0)
		return -errno;
	/* what another process has put in its place meanwhile, a disk of the host, is not for the container */
	if (fstat(in, st) < 0 || !(dir ? S_ISDIR(st->st_mode) : S_ISREG(st->st_mode))) {
		close(in);
		return -ESTALE;
	}
	if (dir && mkdirat(to, name, 0700) < 0) {
		r = -errno;
		close(in);
		return r;
	}
	out = openat(to, name, dir ? O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC
				   : O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	r = out < 0 ? -errno : dir ? copy_dir(in, out, depth + 1) : copy_regular(in, out);
	if (r == 0)
		r = copy_owner(to, name, st);
	if (r == 0) /* after the owner: chown(2) takes file capabilities away */
		r = copy_xattrs(in, out);
	if (out >= 0)
		close(out);
	close(in);
	return r;
}

/* A symlink and its owner, both of the one that `link` is. */
static int copy_link(int link, int to, const char *name, const struct stat *st)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(link, "", target, sizeof(target) - 1);

	if (n < 0)
		return -errno;
	target[n] = 0;
	return symlinkat(target, to, name) < 0 ? -errno : copy_owner(to, name, st);
}

static int copy_one(int from, int to, const char *name, int depth)
{
	int file = openat(from, name, O_PATH | O_NOFOLLOW | O_CLOEXEC), r = 0;
	struct stat st;

	if (file < 0)
		return -errno;
	if (fstat(file, &st) < 0) {
		r = -errno;
	} else if (S_ISLNK(st.st_mode)) {
		r = copy_link(file, to, name, &st);
	} else if (S_ISDIR(st.st_mode) || S_ISREG(st.st_mode)) {
		r = copy_open(from, to, name, &st, depth);
	} else if (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)) {
		r = mknodat(to, name, st.st_mode, 0) < 0 ? -errno : copy_owner(to, name, &st);
	} else {
		close(file);
		return 0; /* devices are made from config.json only */
	}
	close(file);
	if (r == 0 && utimensat(to, name, (struct timespec[]){ st.st_atim, st.st_mtim }, AT_SYMLINK_NOFOLLOW) < 0)
		r = -errno;
	return r;
}

static int copy_dir(int from, int to, int depth)
{
	int fd = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir || depth > COPY_DEPTH) {
		r = dir ? -ELOOP : -errno;
		if (dir)
			closedir(dir);
		else if (fd >= 0)
			close(fd);
		return r;
	}
	while (r == 0 && (errno = 0, entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			r = copy_one(from, to, entry->d_name, depth);
	if (r == 0 && errno)
		r = -errno;
	closedir(dir);
	return r;
}

/* tmpcopyup: fill a new tmpfs (attached nowhere yet) with what it is going to cover. */
int copy_tree(int from, int to)
{
	return copy_dir(from, to, 0);
}
