/* What turns the process into the container's: identity, rights, limits, and the executable. */
#include "nsexec.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* setids.flags */
#define SETGROUPS 1
#define KEEPCAPS 2
#define CHOWN_STDIO 4

#define CWD_TRY 1 /* cwd.flags */

#define PASSWD_MAX (1 << 20)

/* The text of an errno as Go programs print it, in lower case: engines match on it. */
const char *go_strerror(int error)
{
	static char text[128];

	snprintf(text, sizeof(text), "%s", strerror(error));
	text[0] = (char)tolower((unsigned char)text[0]);
	return text;
}

int write_all(int fd, const char *data, size_t size)
{
	while (size > 0) {
		ssize_t n = write(fd, data, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		size -= (size_t)n;
	}
	return 0;
}

int op_setsid(struct ctx *ctx, const struct op *op)
{
	(void)ctx;
	(void)op;
	return setsid() < 0 ? -errno : 0;
}

/* A session keyring of its own: the caller's keys are not the container's. */
int op_keyring(struct ctx *ctx, const struct op *op)
{
	long id = syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, op->strs[0].data);
	uint32_t perm = 0x3f3f0000; /* possessor and owner: all; group and other: nothing */

	if (id < 0 && errno == ENOSYS) {
		send_msg(ctx, MSG_WARN, ENOSYS, "the kernel has no key management", -1);
		return 0;
	}
	if (id < 0)
		return -errno;
	/* the root user of a new user namespace is another uid than the one that made it */
	return syscall(SYS_keyctl, KEYCTL_SETPERM, id, perm) < 0 ? -errno : 0;
}

int op_oom_score_adj(struct ctx *ctx, const struct op *op)
{
	char value[24];
	int fd = proc_open(ctx, "self/oom_score_adj", O_WRONLY), r;

	if (fd < 0)
		return fd;
	snprintf(value, sizeof(value), "%lld", (long long)op->num[0]);
	r = write_all(fd, value, strlen(value));
	close(fd);
	return r;
}

int op_rlimit(struct ctx *ctx, const struct op *op)
{
	struct rlimit limit = { (rlim_t)op->num[1], (rlim_t)op->num[2] }, now;

	(void)ctx;
	if (op->num[3]) { /* the soft limit is ours as well: it changes when we are done */
		if (getrlimit((__rlimit_resource_t)op->num[0], &now) < 0)
			return -errno;
		if (limit.rlim_max <= now.rlim_max)
			return 0;
		limit.rlim_cur = now.rlim_cur;
	}
	return setrlimit((__rlimit_resource_t)op->num[0], &limit) < 0 ? -errno : 0;
}

int op_umask(struct ctx *ctx, const struct op *op)
{
	(void)ctx;
	umask((mode_t)op->num[0]);
	return 0;
}

/* Change directory, and make sure that we arrived inside the root: a leaked descriptor of a host
 * directory under /proc/self/fd would take us out of it (CVE-2024-21626). */
int op_cwd(struct ctx *ctx, const struct op *op)
{
	char path[PATH_MAX];

	if (ctx->cwd_done)
		return 0;
	if (chdir(op->strs[0].data) < 0) {
		/* a directory that root may not enter but the user may (a network file system): it is
		 * tried before the change of ids and again after it */
		if ((errno == EACCES || errno == EPERM) && op->num[0] & CWD_TRY)
			return 0;
		return -errno;
	}
	if (syscall(SYS_getcwd, path, sizeof(path)) < 0)
		return -errno;
	if (path[0] != '/')
		return detail(ctx, EPERM, "the directory lies outside the container");
	ctx->cwd_done = true;
	return 0;
}

int op_bounding(struct ctx *ctx, const struct op *op)
{
	(void)ctx;
	for (int cap = 0; cap < 64; cap++) {
		if ((uint64_t)op->num[0] >> cap & 1)
			continue;
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
			if (errno == EINVAL)
				break; /* beyond the kernel's last capability */
			if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 0)
				continue; /* not there anyway, and no right to say so (rootless) */
			return -errno;
		}
	}
	return 0;
}

/* Give the pipes and sockets among the standard streams to the user, so that /dev/stdout can be opened
 * again; what cannot be given (a foreign owner) stays.  Files and terminals are the caller's: who owns
 * one may open it for writing, also when we have it only for reading, and keeps it when we are gone. */
static void chown_stdio(uid_t uid)
{
	struct stat st;

	for (int fd = 0; fd < 3; fd++)
		if (fstat(fd, &st) == 0 && st.st_uid != uid && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)))
			if (fchown(fd, uid, (gid_t)-1) < 0)
				continue;
}

static int own_permitted(uint64_t *permitted)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &head, data) < 0)
		return -errno;
	*permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
	return 0;
}

/* Before a user namespace is joined: whoever made it may have denied setgroups(2) in it, and the groups
 * of the caller are rights over the host's files.  An ordinary user cannot give them up, here or there. */
int drop_groups(const struct ctx *ctx)
{
	for (uint32_t i = ctx->at; i < ctx->plan.nops; i++)
		if (ctx->plan.ops[i].code == OP_SETIDS && ctx->plan.ops[i].num[2] & SETGROUPS)
			return setgroups(0, NULL) < 0 && errno != EPERM ? -errno : 0;
	return 0;
}

/* Whether the user namespace denies setgroups(2) to everybody: user_namespaces(7).  False where /proc is out of reach. */
bool groups_denied(const struct ctx *ctx)
{
	char text[5] = "";
	int fd = ctx->proc < 0 ? -1 : proc_open(ctx, "self/setgroups", O_RDONLY);

	if (fd < 0)
		return false;
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = 0;
	close(fd);
	return !strcmp(text, "deny");
}

static int set_groups(struct ctx *ctx, const struct op *op)
{
	size_t n = op->strs[0].len / 4;
	gid_t *groups = malloc(n * 4 + 1); /* the strings of a plan lie anywhere */
	int error;

	if (!groups)
		return -ENOMEM;
	memcpy(groups, op->strs[0].data, n * 4);
	error = op->strs[0].len % 4 ? EINVAL : setgroups(n, groups) < 0 ? errno : 0;
	free(groups);
	if (!error)
		return 0;
	if (n == 0 && getgroups(0, NULL) == 0)
		return 0;
	/* in the user namespace of an ordinary user setgroups(2) is denied, whatever capabilities one has: the
	 * groups cannot be dropped, and those that engines ask for as a habit are left out, as runc does */
	if (error == EPERM && (ctx->groups_denied || groups_denied(ctx)))
		return 0;
	return detail(ctx, error, "groups");
}

int op_setids(struct ctx *ctx, const struct op *op)
{
	uid_t uid = (uid_t)op->num[0];
	gid_t gid = (gid_t)op->num[1];
	int64_t flags = op->num[2];
	int r;

	if (flags & CHOWN_STDIO)
		chown_stdio(uid);
	if (flags & SETGROUPS && (r = set_groups(ctx, op)) < 0)
		return r;
	if (flags & KEEPCAPS && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		return -errno;
	if (setresgid(gid, gid, gid) < 0)
		return detail(ctx, errno, "gid %u", gid);
	if (setresuid(uid, uid, uid) < 0)
		return detail(ctx, errno, "uid %u", uid);
	/* the change of ids cleared it; until READY the container dies with the runtime */
	if (ctx->sock >= 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return -errno;
	return 0;
}

static int set_caps(uint64_t effective, uint64_t permitted, uint64_t inheritable)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	for (int i = 0; i < 2; i++)
		data[i] = (struct __user_cap_data_struct){ (uint32_t)(effective >> 32 * i),
							   (uint32_t)(permitted >> 32 * i),
							   (uint32_t)(inheritable >> 32 * i) };
	return syscall(SYS_capset, &head, data) < 0 ? -errno : 0;
}

/* The sets as the config has them; what we do not have ourselves cannot be granted, which is a
 * warning, says the runtime-spec, and not an error.  Loading seccomp without no_new_privs needs
 * CAP_SYS_ADMIN: it stays in the effective and permitted sets until execve(2), which computes
 * both anew from the bounding, inheritable and ambient sets (capabilities(7)), so it is gone
 * for the program.  That way the profile need not allow capset(2). */
int op_caps(struct ctx *ctx, const struct op *op)
{
	uint64_t effective = (uint64_t)op->num[0], permitted = (uint64_t)op->num[1];
	uint64_t inheritable = (uint64_t)op->num[2], ambient = (uint64_t)op->num[3], have = 0;
	int r = own_permitted(&have);

	if (r < 0)
		return r;
	if ((effective | permitted | inheritable | ambient) & ~have)
		send_msg(ctx, MSG_WARN, (int64_t)((effective | permitted | inheritable | ambient) & ~have), "capabilities", -1);
	if (plan_has_after(ctx, OP_SECCOMP) && !plan_has_after(ctx, OP_NO_NEW_PRIVS)) {
		effective |= 1ull << CAP_SYS_ADMIN;
		permitted |= 1ull << CAP_SYS_ADMIN;
	}
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
		return -errno;
	r = set_caps(effective & have, permitted & have, inheritable & have);
	for (int cap = 0; cap < 64 && r == 0; cap++)
		if (ambient & have & inheritable & permitted & 1ull << cap &&
		    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0)
			r = detail(ctx, errno, "ambient capability %d", cap);
	return r;
}

int op_no_new_privs(struct ctx *ctx, const struct op *op)
{
	(void)ctx;
	(void)op;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

static char **vector(const struct op *op, int from, int64_t count, char *extra)
{
	char **v = calloc((size_t)count + 2, sizeof(*v));

	for (int64_t i = 0; v && i < count; i++)
		v[i] = (char *)(uintptr_t)op->strs[from + i].data;
	if (v)
		v[count] = extra;
	return v;
}

/* All that is left but execve(2), which is all that a seccomp profile needs to allow: done before one
 * is loaded.  Whoever passed by here once is ready. */
static int ready_to_exec(struct ctx *ctx, const struct op *op)
{
	int64_t argc = op->num[0], preserve = op->num[2];
	int r;

	if (ctx->argv)
		return 0;
	/* once more, though everything but ours went before the first operation.  Where /proc is out of
	 * reach and close_range(2) not there, nothing was opened since */
	if (ctx->proc >= 0 && (r = close_others(ctx, 3 + (unsigned)preserve)) < 0)
		return r;
	/* What the caller handed on is not close-on-exec, or it had not come to us.  Ours are, and stay so: where he
	 * handed on less than he says, one of them has such a number. */
	if (prctl(PR_SET_PDEATHSIG, 0) < 0)
		return -errno;
	ctx->envp = vector(op, (int)argc, op->num[1], ctx->home);
	ctx->argv = vector(op, 0, argc, NULL);
	return ctx->argv && ctx->envp && ctx->exe ? 0 : -ENOMEM;
}

/* Tell the host side under which number it finds the listener, and wait until it has fetched it: with
 * write(2) alone, since any other call may by now be one that the listener has to allow.  The gate is a
 * full pipe, whose other end only the host side has: if that is killed, the write fails. */
static int announce(struct ctx *ctx, const struct op *op, int listener)
{
	struct msg msg = { MSG_LISTENER, ctx->at, listener };
	int64_t gate = op->num[1] - 1;
	int r;

	if (write(ctx->sock, &msg, sizeof(msg)) < 0)
		return -errno;
	if (gate < 0 || gate >= ctx->nfds)
		return -EINVAL;
	if ((r = write_all(ctx->fds[gate], "1", 1)) < 0)
		return r;
	if (ctx->at + 1 < ctx->plan.nops && ctx->plan.ops[ctx->at + 1].code == OP_FIFO)
		ctx->sock = -1; /* not closed: that would be another call */
	return 0;
}

int op_seccomp(struct ctx *ctx, const struct op *op)
{
	struct sock_fprog prog = { .len = (unsigned short)(op->strs[0].len / sizeof(struct sock_filter)),
				   .filter = (struct sock_filter *)(uintptr_t)op->strs[0].data };
	const struct op *last = &ctx->plan.ops[ctx->plan.nops - 1];
	bool notify = op->num[0] & SECCOMP_FILTER_FLAG_NEW_LISTENER;
	int r = last->code == OP_EXEC ? ready_to_exec(ctx, last) : 0;

	if (r < 0)
		return r;
	if (op->strs[0].len % sizeof(struct sock_filter) || op->strs[0].len / sizeof(struct sock_filter) > BPF_MAXINSNS)
		return -EINVAL;
	if (notify && ctx->unprivileged) /* or an ordinary user's runtime could not fetch it: ptrace(2) */
		prctl(PR_SET_DUMPABLE, 1);
	r = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, (unsigned)op->num[0], &prog);
	if (r < 0)
		return -errno;
	return notify ? announce(ctx, op, r) : 0;
}

/* -- HOME ------------------------------------------------------------------------------------ */

/* The home directory of uid in a passwd(5) text, or NULL.  The text is cut up in place. */
static char *find_home(char *text, int64_t uid)
{
	char *save_line = NULL;

	for (char *line = strtok_r(text, "\n", &save_line); line; line = strtok_r(NULL, "\n", &save_line)) {
		char *field[7] = { line }, *end;
		int n = 1;

		for (char *p = line; *p && n < 7; p++)
			if (*p == ':') {
				*p = 0;
				field[n++] = p + 1;
			}
		if (n == 7 && *field[2] && strtoll(field[2], &end, 10) == uid && !*end && *field[5])
			return field[5];
	}
	return NULL;
}

/* HOME for a process whose environment has none, from the container's own /etc/passwd. */
int op_home(struct ctx *ctx, const struct op *op)
{
	char *text = NULL, *home = NULL;
	int r = path_read_regular(ctx, "/etc/passwd", PASSWD_MAX, &text);

	if (r >= 0)
		home = find_home(text, op->num[0]);
	r = asprintf(&ctx->home, "HOME=%s", home ? home : "/");
	free(text);
	return r < 0 ? -ENOMEM : 0;
}

/* -- the executable -------------------------------------------------------------------------- */

/* May we execute this?  0 or -errno. */
static int executable(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EACCES;
	return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0 ? -errno : 0;
}

/* Find the program as execvp(3) does, so that create says what start would only find out. */
int op_lookup(struct ctx *ctx, const struct op *op)
{
	const char *file = op->strs[0].data, *dir = op->strs[1].data;
	char path[PATH_MAX];

	if (strchr(file, '/')) {
		ctx->exe = strdup(file);
		return ctx->exe ? executable(file) : -ENOMEM;
	}
	while (*file && *dir) { /* no PATH, nowhere to look: the current directory is not meant */
		size_t n = strcspn(dir, ":");
		int len = snprintf(path, sizeof(path), "%.*s%s%s", (int)n, dir, n ? "/" : "./", file);

		if (len > 0 && (size_t)len < sizeof(path) && executable(path) == 0) {
			ctx->exe = strdup(path);
			return ctx->exe ? 0 : -ENOMEM;
		}
		if (!dir[n])
			break;
		dir += n + 1;
	}
	return detail(ctx, ENOENT, "$PATH");
}

/* The end: become the program.  A failure here is found only after `start` (a bad format, a
 * missing interpreter), so the container itself says it, as a shell would. */
int op_exec(struct ctx *ctx, const struct op *op)
{
	int error = -ready_to_exec(ctx, op);

	if (error)
		return -error;
	execve(ctx->exe, ctx->argv, ctx->envp);
	error = errno;
	if (ctx->sock < 0) {
		dprintf(2, "exec %s: %s\n", ctx->exe, go_strerror(error));
		_exit(1);
	}
	return -error;
}
