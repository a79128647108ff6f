/* Paths of the container are descriptors: every string that names a file under the container's
 * root goes through this file and comes out as an O_PATH descriptor that lies in the root.
 * The kernel resolves it (openat2, RESOLVE_IN_ROOT); where a component must be made, or openat2
 * is missing, the walk below does, one component at a time, never following anything by itself. */
#include "nsexec.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#define WALK_DEPTH 200 /* directories deep; each holds a descriptor while the walk lasts */
#define WALK_LINKS 40  /* symlinks followed, as the kernel's MAXSYMLINKS */
#define PATH_ROOM (4 * PATH_MAX)

struct walk {
	const struct ctx *ctx;
	const char *path;
	int dir[WALK_DEPTH]; /* dir[0] is the root: ".." never leaves it */
	int depth;
	int links;
	enum want want;
	enum follow follow;
	mode_t mode; /* of the directories made */
	char rest[PATH_ROOM]; /* what is still to be walked */
};

static int walk_push(struct walk *w, int fd)
{
	if (w->depth + 1 >= WALK_DEPTH) {
		close(fd);
		return -ENAMETOOLONG;
	}
	w->dir[++w->depth] = fd;
	return 0;
}

static void walk_pop_to(struct walk *w, int depth)
{
	while (w->depth > depth)
		close(w->dir[w->depth--]);
}

/* Put the target of a symlink in front of what is still to be walked. */
static int walk_link(struct walk *w, int fd)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(fd, "", target, sizeof(target) - 1);
	size_t rest = strlen(w->rest);

	if (n < 0)
		return -errno;
	if (++w->links > WALK_LINKS)
		return -ELOOP;
	if ((size_t)n + 1 + rest + 1 > sizeof(w->rest))
		return -ENAMETOOLONG;
	memmove(w->rest + n + 1, w->rest, rest + 1);
	memcpy(w->rest, target, (size_t)n);
	w->rest[n] = '/';
	if (target[0] == '/')
		walk_pop_to(w, 0);
	return 0;
}

/* Make the component that is not there: a directory, or the file at the end. */
static int walk_make(const struct walk *w, const char *name, bool last)
{
	int dir = w->dir[w->depth], fd;

	if (w->want == WANT_ANY)
		return -ENOENT;
	if (w->follow == FOLLOW_NONE && (fd = on_placed(w->ctx, w->path, dir)) < 0)
		return fd;
	if (last && w->want == WANT_FILE) {
		fd = openat(dir, name, O_RDONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
		if (fd < 0 && errno != EEXIST)
			return -errno;
		if (fd >= 0)
			close(fd);
	} else if (mkdirat(dir, name, w->mode) < 0 && errno != EEXIST) {
		return -errno;
	}
	fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* Cut the next component off `rest`; returns its length, 0 at the end.  *last: nothing follows. */
static size_t walk_next(struct walk *w, char name[NAME_MAX + 1], bool *last)
{
	char *p = w->rest + strspn(w->rest, "/");
	size_t n = strcspn(p, "/");

	if (n > NAME_MAX)
		return n;
	memcpy(name, p, n);
	name[n] = 0;
	p += n;
	p += strspn(p, "/");
	*last = *p == 0;
	memmove(w->rest, p, strlen(p) + 1);
	return n;
}

/* Enter one component.  Returns 0 to go on or -errno. */
static int walk_step(struct walk *w, const char *name, bool last)
{
	struct stat st;
	int fd;

	if (!strcmp(name, "."))
		return 0;
	if (!strcmp(name, "..")) {
		walk_pop_to(w, w->depth > 0 ? w->depth - 1 : 0);
		return 0;
	}
	fd = openat(w->dir[w->depth], name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		fd = errno == ENOENT ? walk_make(w, name, last) : -errno;
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0 || (!last && !S_ISLNK(st.st_mode) && !S_ISDIR(st.st_mode))) {
		close(fd);
		return -ENOTDIR;
	}
	if (S_ISLNK(st.st_mode) && !(last && w->follow != FOLLOW_ALL)) {
		int r = w->follow == FOLLOW_NONE ? -ELOOP : walk_link(w, fd);

		close(fd);
		return r;
	}
	return walk_push(w, fd);
}

static int walk_path(const struct ctx *ctx, const char *path, enum want want, enum follow follow)
{
	static struct walk w; /* large; nsexec has one thread */
	char name[NAME_MAX + 1];
	bool last = false;
	size_t n;
	int r = 0;

	if (strlen(path) >= PATH_MAX)
		return -ENAMETOOLONG;
	w = (struct walk){ .ctx = ctx, .path = path, .want = want, .follow = follow,
			   .mode = ctx->mkdir_mode ? ctx->mkdir_mode : 0755 };
	strcpy(w.rest, path);
	w.dir[0] = fcntl(ctx->root, F_DUPFD_CLOEXEC, 3);
	if (w.dir[0] < 0)
		return -errno;
	while (r == 0 && (n = walk_next(&w, name, &last)) > 0)
		r = n > NAME_MAX ? -ENAMETOOLONG : walk_step(&w, name, last);
	if (r == 0) {
		r = fcntl(w.dir[w.depth], F_DUPFD_CLOEXEC, 3);
		r = r < 0 ? -errno : r;
	}
	walk_pop_to(&w, 0);
	close(w.dir[0]);
	return r;
}

static int in_root(int root, const char *path, enum follow follow)
{
	struct open_how how = { .flags = O_PATH | O_CLOEXEC | (follow == FOLLOW_ALL ? 0 : O_NOFOLLOW),
				.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
	int fd;

	if (follow == FOLLOW_NONE)
		how.resolve |= RESOLVE_NO_SYMLINKS;
	/* EAGAIN: something was renamed meanwhile and the kernel could not tell that the path
	 * stayed inside; a hostile process can do that at will, so a bound, then the walk */
	for (int i = 0; i < 64; i++) {
		fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
		if (fd >= 0 || errno != EAGAIN)
			break;
	}
	return fd < 0 ? -errno : fd;
}

static bool no_openat2(int r)
{
	return r == -ENOSYS || r == -EAGAIN || r == -EPERM;
}

/* Open a path of the container, symlinks resolved inside it, as O_PATH. */
int path_open(const struct ctx *ctx, const char *path, bool nofollow)
{
	enum follow follow = nofollow ? FOLLOW_WAY : FOLLOW_ALL;
	int fd = in_root(ctx->root, path, follow);

	return no_openat2(fd) ? walk_path(ctx, path, WANT_ANY, follow) : fd;
}

/* The same, making what is missing: directories, and at the end a directory or an empty file. */
int path_create(const struct ctx *ctx, const char *path, enum want want, enum follow follow)
{
	int fd = in_root(ctx->root, path, follow), r = 0;

	if (fd == -ENOENT || no_openat2(fd))
		fd = walk_path(ctx, path, want, follow);
	if (fd >= 0 && follow == FOLLOW_NONE)
		r = on_placed(ctx, path, fd);
	if (r == 0)
		return fd;
	close(fd);
	return r;
}

/* Why a path is not for what the runtime makes itself (FOLLOW_NONE). */
int path_not_ours(struct ctx *ctx, int error)
{
	if (error == -ELOOP)
		return detail(ctx, ELOOP, "a directory on the way is a symlink");
	return error == -EXDEV ? detail(ctx, EPERM, "another mount of the config covers that place") : error;
}

/* Open (making it) the directory that holds the last component, which comes back in `name`:
 * for files that must be made by name and never followed. */
int path_parent(const struct ctx *ctx, const char *path, enum follow follow, char name[256])
{
	char dir[PATH_MAX];
	const char *slash;
	size_t n = strlen(path);

	while (n > 1 && path[n - 1] == '/')
		n--;
	if (n >= sizeof(dir))
		return -ENAMETOOLONG;
	memcpy(dir, path, n);
	dir[n] = 0;
	slash = strrchr(dir, '/');
	if (strlen(slash ? slash + 1 : dir) > NAME_MAX)
		return -ENAMETOOLONG;
	strcpy(name, slash ? slash + 1 : dir);
	if (!*name || !strcmp(name, ".") || !strcmp(name, ".."))
		return -EINVAL;
	dir[slash ? slash - dir : 0] = 0;
	return path_create(ctx, *dir ? dir : "/", WANT_DIR, follow);
}

/* Open something through the procfs handle: "self/..." or "sys/...".  No symlink is followed but
 * "self", no mount is crossed, and what comes out lies on procfs: a file of the rootfs that
 * plays /proc is never written to (CVE-2019-16884, CVE-2019-19921). */
int proc_open(const struct ctx *ctx, const char *path, int flags)
{
	struct open_how how = { .flags = (uint64_t)(flags | O_CLOEXEC | O_NOFOLLOW),
				.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV };
	int fd = (int)syscall(SYS_openat2, ctx->proc, path, &how, sizeof(how));

	if (fd < 0 && (errno == ENOSYS || errno == EPERM))
		fd = openat(ctx->proc, path, flags | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	if (!is_fs(fd, PROC_SUPER_MAGIC)) {
		close(fd);
		return -EXDEV;
	}
	return fd;
}

bool is_fs(int fd, long magic)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && (long)fs.f_type == magic;
}

bool is_device(int fd, unsigned major, unsigned minor)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(major, minor);
}

/* Read a regular file of the container, of at most max bytes, into a NUL-terminated buffer.
 * A fifo or device there must not make us wait: it is not opened for reading at all. */
int path_read_regular(const struct ctx *ctx, const char *path, size_t max, char **data)
{
	char link[32];
	struct stat st;
	ssize_t n = -1;
	int fd = path_open(ctx, path, false), in = -1;

	if (fd < 0)
		return fd;
	*data = calloc(1, max + 1);
	snprintf(link, sizeof(link), "self/fd/%d", fd);
	if (!*data || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		errno = EINVAL;
	else if ((in = openat(ctx->proc, link, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) >= 0)
		n = read(in, *data, max);
	int error = errno;

	if (in >= 0)
		close(in);
	close(fd);
	if (n < 0) {
		free(*data);
		*data = NULL;
		return -error;
	}
	return (int)n;
}
