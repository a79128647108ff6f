/* Where the plan's own mounts are.  A hostile image's symlinks lead a destination of config.json to a
 * place that another line of it names: a volume on /data, which is a link to /dev, covers the tmpfs
 * there, and what the runtime makes in /dev would be made on the host.  So each mount is remembered by
 * the words of its destination, and what is found by these words is held against it. */
#include "nsexec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int look(int fd, struct statx *st)
{
	if (statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_MNT_ID, st) < 0)
		return -errno;
	return st->stx_mask & STATX_MNT_ID ? 0 : -ENOSYS;
}

/* Does `fd` lie on the mount of that number?  0 or 1, or -errno. */
int mount_number(int fd, int64_t number)
{
	struct statx st;
	int r = look(fd, &st);

	return r < 0 ? r : st.stx_mnt_id == (uint64_t)number;
}

/* What `mnt` refers to is now the mount on dest. */
int placed(struct ctx *ctx, const char *dest, int mnt)
{
	struct statx st;
	struct placed *more;
	int r = look(mnt, &st);

	if (r < 0)
		return r;
	more = reallocarray(ctx->placed, (size_t)ctx->nplaced + 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	ctx->placed = more;
	ctx->placed[ctx->nplaced++] = (struct placed){ dest, st.stx_mnt_id };
	return 0;
}

static bool above(const char *dest, const char *path)
{
	size_t n = strlen(dest);

	return !strncmp(dest, path, n) && (path[n] == 0 || path[n] == '/');
}

/* Does `fd`, found by `path`, lie on the mount that the config put there (the last one covers those
 * before), or on the root's own where it put none?  -EXDEV if not. */
int on_placed(const struct ctx *ctx, const char *path, int fd)
{
	struct statx st, root;
	int r = look(fd, &st), i = ctx->nplaced - 1;

	while (i >= 0 && !above(ctx->placed[i].dest, path))
		i--;
	if (r == 0 && i < 0)
		r = look(ctx->root, &root);
	if (r < 0)
		return r;
	return st.stx_mnt_id == (i < 0 ? root.stx_mnt_id : ctx->placed[i].id) ? 0 : -EXDEV;
}

/* A place that is the root itself is never mounted on: init would keep what is below, and whoever joins
 * later would get what is above. */
int not_root(struct ctx *ctx, int fd)
{
	struct statx st, root;
	int r = look(fd, &st);

	if (r == 0)
		r = look(ctx->root, &root);
	if (r == 0 && st.stx_mnt_id == root.stx_mnt_id && st.stx_ino == root.stx_ino)
		return detail(ctx, EPERM, "the destination is the root itself");
	return r;
}

/* Open the mount on dest to change it: the one that the plan has put there, whatever the path has come to
 * since.  Where it has put none (it came with the root) no link is followed at the end, and what is no
 * mount the kernel refuses to change. */
int placed_open(struct ctx *ctx, const char *dest)
{
	int i = ctx->nplaced - 1, fd, r;
	struct statx st;

	while (i >= 0 && strcmp(ctx->placed[i].dest, dest))
		i--;
	fd = path_open(ctx, dest, i < 0);
	if (fd < 0)
		return fd;
	r = not_root(ctx, fd);
	if (r == 0 && i >= 0)
		r = look(fd, &st);
	if (r == 0 && i >= 0 && st.stx_mnt_id != ctx->placed[i].id)
		r = path_not_ours(ctx, -EXDEV);
	if (r == 0)
		return fd;
	close(fd);
	return r;
}
