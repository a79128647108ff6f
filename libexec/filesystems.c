/* A file system by itself: opened, configured option by option, and made a mount that is attached
 * nowhere yet (fsopen(2), fsconfig(2), fsmount(2)). */
#include "nsexec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

static const struct {
	unsigned long ms;
	uint64_t attr;
} attr_of_ms[] = {
	{ MS_RDONLY, MOUNT_ATTR_RDONLY },	{ MS_NOSUID, MOUNT_ATTR_NOSUID },
	{ MS_NODEV, MOUNT_ATTR_NODEV },		{ MS_NOEXEC, MOUNT_ATTR_NOEXEC },
	{ MS_NOATIME, MOUNT_ATTR_NOATIME },	{ MS_STRICTATIME, MOUNT_ATTR_STRICTATIME },
	{ MS_NODIRATIME, MOUNT_ATTR_NODIRATIME }, { 256 /* MS_NOSYMFOLLOW */, 0x200000 },
};

static const struct {
	unsigned long ms;
	const char *key;
} key_of_ms[] = {
	{ MS_SYNCHRONOUS, "sync" },
	{ MS_DIRSYNC, "dirsync" },
	{ MS_MANDLOCK, "mand" },
	{ MS_LAZYTIME, "lazytime" },
};

/* What the file system itself has to say (fsopen(2): a log of lines, each "e ", "w " or "i "). */
static int fs_error(struct ctx *ctx, int fs, int error)
{
	char line[256];
	ssize_t n;

	while ((n = read(fs, line, sizeof(line) - 1)) > 0) {
		line[n] = 0;
		if (line[0] == 'e')
			detail(ctx, error, "%s", line + 2);
	}
	return -error;
}

/* fsconfig(2) takes strings of so many bytes. */
#define FS_STRING 255
#define HELD_MAX 12

/* Descriptors that are open until a file system is mounted. */
struct held {
	int fd[HELD_MAX + 3], n; /* layers, and the two directories of the upper one */
};

/* Cut the next option off the comma separated ones; a comma between double quotes is part of the value
 * (SELinux labels), and the quotes are not. */
static char *next_option(char **rest)
{
	char *option = *rest, *to = option, *p = option;

	if (!p)
		return NULL;
	for (bool quoted = false; *p && (quoted || *p != ','); p++)
		if (*p == '"')
			quoted = !quoted;
		else
			*to++ = *p;
	*rest = *p ? p + 1 : NULL;
	*to = 0;
	return option;
}

/* Cut the next path off an overlay's layers, which are separated by colons; a backslash takes the meaning of
 * what follows it. */
static char *next_layer(char **rest)
{
	char *layer = *rest, *to = layer, *p = layer;

	if (!p)
		return NULL;
	for (; *p && *p != ':'; p++) {
		if (*p == '\\' && p[1])
			p++;
		*to++ = *p;
	}
	*rest = *p ? p + 1 : NULL;
	*to = 0;
	return layer;
}

/* An option of overlayfs that is too long for fsconfig(2): its paths are named by descriptors.  All in one
 * if that is short enough, and then they must stay open until the mount is made; else one by one, which takes
 * Linux 6.5. */
static int fs_layers(struct ctx *ctx, int fs, const char *key, char *value, struct held *held)
{
	char joined[FS_STRING + 1] = "", name[32], *rest = value, *path;
	bool split = !strcmp(key, "lowerdir"), many;
	int r = 0, dir, colons = 0;

	for (const char *p = value; split && *p; p++)
		colons += *p == ':';
	many = colons >= HELD_MAX - held->n;
	while (r == 0 && rest) {
		path = split ? next_layer(&rest) : value;
		rest = split ? rest : NULL;
		dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (dir < 0)
			return detail(ctx, errno, "option %s: %s", key, path);
		if (held->n == HELD_MAX + 3) {
			close(dir);
			return detail(ctx, E2BIG, "option %s", key);
		}
		held->fd[held->n++] = dir;
		snprintf(name, sizeof(name), "/proc/self/fd/%d", dir);
		if (many) {
			r = fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir+", name, 0) < 0 ? -errno : 0;
			close(held->fd[--held->n]);
		} else {
			size_t used = strlen(joined);
			snprintf(joined + used, sizeof(joined) - used, "%s%s", used ? ":" : "", name);
		}
	}
	if (r == 0 && !many && fsconfig(fs, FSCONFIG_SET_STRING, key, joined, 0) < 0)
		r = -errno;
	if (r == 0)
		return 0;
	detail(ctx, -r, "option %s", key);
	return fs_error(ctx, fs, -r);
}

static int fs_option(struct ctx *ctx, int fs, const char *key, char *value, struct held *held)
{
	bool layers = !strcmp(key, "lowerdir") || !strcmp(key, "upperdir") || !strcmp(key, "workdir");

	if (value && layers && held && strlen(value) > FS_STRING)
		return fs_layers(ctx, fs, key, value, held);
	if (fsconfig(fs, value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, key, value, 0) < 0) {
		int error = errno;

		detail(ctx, error, "option %s", key);
		return fs_error(ctx, fs, error);
	}
	return 0;
}

/* Hand the options to the file system, one by one. */
static int fs_options(struct ctx *ctx, int fs, const char *data, struct held *held)
{
	char *copy = strdup(data), *rest = copy, *key;
	int r = copy ? 0 : -ENOMEM;

	while (r == 0 && (key = next_option(&rest))) {
		char *value = strchr(key, '=');

		if (!*key)
			continue;
		if (value)
			*value++ = 0;
		r = fs_option(ctx, fs, key, value, held);
	}
	free(copy);
	return r;
}

static int fs_flags(struct ctx *ctx, int fs, unsigned long flags, const char *source)
{
	/* only a file system on a device has a read-only state of its own; for the others (a procfs
	 * or sysfs shared with the host) the mount is read-only, not the superblock */
	if (flags & MS_RDONLY && source[0] == '/' && fsconfig(fs, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0)
		return fs_error(ctx, fs, errno);
	for (size_t i = 0; i < sizeof(key_of_ms) / sizeof(key_of_ms[0]); i++)
		if (flags & key_of_ms[i].ms && fsconfig(fs, FSCONFIG_SET_FLAG, key_of_ms[i].key, NULL, 0) < 0)
			return fs_error(ctx, fs, errno);
	return 0;
}

/* Make a mount of a new file system, attached nowhere. */
int fs_mount(struct ctx *ctx, const char *type, const char *source, unsigned long flags, const char *data)
{
	unsigned attr = 0;
	struct held held = { .n = 0 };
	int r, mnt = -1, fs = fsopen(type, FSOPEN_CLOEXEC);

	if (fs < 0)
		return -errno;
	for (size_t i = 0; i < sizeof(attr_of_ms) / sizeof(attr_of_ms[0]); i++)
		if (flags & attr_of_ms[i].ms)
			attr |= (unsigned)attr_of_ms[i].attr;
	r = 0;
	if (*source && fsconfig(fs, FSCONFIG_SET_STRING, "source", source, 0) < 0)
		r = fs_error(ctx, fs, errno);
	if (r == 0)
		r = fs_flags(ctx, fs, flags, source);
	if (r == 0)
		r = fs_options(ctx, fs, data, &held);
	if (r == 0 && fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		r = fs_error(ctx, fs, errno);
	if (r == 0 && (mnt = fsmount(fs, FSMOUNT_CLOEXEC, attr)) < 0)
		r = fs_error(ctx, fs, errno);
	close(fs);
	while (held.n)
		close(held.fd[--held.n]);
	return r < 0 ? r : mnt;
}

/* Change the file system itself, and not a flag of the mount that was not asked for: those of a mount that
 * came from a more privileged namespace are locked. */
int fs_reconfigure(struct ctx *ctx, int fd, unsigned long flags, bool writable, const char *data)
{
	int fs = fspick(fd, "", FSPICK_EMPTY_PATH | FSPICK_CLOEXEC), r;

	if (fs < 0)
		return -errno;
	if (flags & MS_RDONLY || writable)
		r = fsconfig(fs, FSCONFIG_SET_FLAG, writable ? "rw" : "ro", NULL, 0) < 0 ? fs_error(ctx, fs, errno) : 0;
	else
		r = 0;
	if (r == 0)
		r = fs_flags(ctx, fs, flags & ~(unsigned long)MS_RDONLY, "");
	if (r == 0)
		r = fs_options(ctx, fs, data, NULL);
	if (r == 0 && fsconfig(fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0) < 0)
		r = fs_error(ctx, fs, errno);
	close(fs);
	return r;
}
