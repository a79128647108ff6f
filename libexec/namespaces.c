/* The namespaces: join them, make them, fork into them, with the host side asked where it has a part. */
#include "nsexec.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SYNC_MAPS 1

static int join_one(struct ctx *ctx, const struct op *op)
{
	int64_t index = op->num[1];
	int r;

	if (index < 0 || index >= ctx->nfds)
		return detail(ctx, EINVAL, "no descriptor %lld", (long long)index);
	if (op->num[0] == CLONE_NEWUSER && (r = drop_groups(ctx)) < 0)
		return r;
	return setns(ctx->fds[index], (int)op->num[0]) < 0 ? -errno : 0;
}

/* Joins that stand together are one step.  A namespace may be owned by the user namespace that is
 * joined as well (then the user namespace comes first) or by the host's (then it comes last, for
 * with it the rights over the host's are lost): try all, then the user namespace, then the rest. */
int op_join(struct ctx *ctx, const struct op *op)
{
	const struct op *end = ctx->plan.ops + ctx->plan.nops;
	uint32_t first = ctx->at, last = first;
	bool done[64] = { false }, again = true;
	int r = 0;

	(void)op;
	while (ctx->plan.ops + last + 1 < end && ctx->plan.ops[last + 1].code == OP_JOIN && last - first < 63)
		last++;
	for (int pass = 0; pass < 3 && again; pass++) {
		again = false;
		for (uint32_t i = first; i <= last; i++) {
			const struct op *join = &ctx->plan.ops[i];

			if (done[i - first] || (pass == 1) != (join->num[0] == CLONE_NEWUSER)) {
				again |= !done[i - first];
				continue;
			}
			ctx->at = i;
			r = join_one(ctx, join);
			if (r < 0 && (pass > 0 || r != -EPERM))
				return r;
			done[i - first] = r == 0;
			again |= r < 0;
		}
	}
	ctx->at = last;
	return r;
}

/* A new network namespace has a loopback device, which is down. */
static int loopback_up(struct ctx *ctx)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int r;

	if (fd < 0 && errno == EAFNOSUPPORT)
		return 0; /* a kernel without IPv4 has no loopback to bring up */
	r = fd < 0 || ioctl(fd, SIOCSIFFLAGS, &lo) < 0 ? detail(ctx, errno, "lo") : 0;

	if (fd >= 0)
		close(fd);
	return r;
}

int op_unshare(struct ctx *ctx, const struct op *op)
{
	if (unshare((int)op->num[0]) < 0)
		return -errno;
	return op->num[0] & CLONE_NEWNET ? loopback_up(ctx) : 0;
}

int op_sync(struct ctx *ctx, const struct op *op)
{
	/* /proc/PID/uid_map of a process that is not dumpable belongs to root: an ordinary user's
	 * runtime could not write it.  Nothing foreign can see us yet. */
	bool open = op->num[0] == SYNC_MAPS && ctx->unprivileged;

	if (open)
		prctl(PR_SET_DUMPABLE, 1);
	send_msg(ctx, MSG_SYNC, op->num[0], "", -1);
	wait_go(ctx);
	return open ? guard() : 0;
}

/* Offsets can be set until the first process enters the namespace: before the fork. */
int op_timens(struct ctx *ctx, const struct op *op)
{
	int fd = ctx->timens, r;

	if (ctx->unprivileged)
		prctl(PR_SET_DUMPABLE, 1); /* as in op_sync */
	if (fd < 0)
		fd = proc_open(ctx, "self/timens_offsets", O_WRONLY);
	ctx->timens = -1;
	r = fd < 0 ? fd : write_all(fd, op->strs[0].data, op->strs[0].len);
	if (fd >= 0)
		close(fd);
	return r < 0 ? r : guard();
}

/* Open a cgroup while we still have the host's rights and paths; the child of fork goes in. */
int op_enter(struct ctx *ctx, const struct op *op)
{
	const char *path = op->strs[0].data;
	struct stat st;
	int fd = open(path, O_PATH | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0)
		return op->num[0] ? 0 : -errno;
	if (S_ISDIR(st.st_mode)) {
		ctx->cgroup = fd;
		return 0;
	}
	close(fd);
	if (ctx->ncgroups == MAX_CGROUPS)
		return -E2BIG;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return op->num[0] ? 0 : -errno;
	ctx->cgroups[ctx->ncgroups++] = fd;
	return 0;
}

/* A process with one thread that moves itself, and through `tasks`, takes no lock over all forks of
 * the machine: moving it from outside costs 5 to 15 ms, this costs nothing. */
static int enter_cgroups(struct ctx *ctx)
{
	for (int i = 0; i < ctx->ncgroups; i++) {
		int r = write_all(ctx->cgroups[i], "0", 1);

		close(ctx->cgroups[i]);
		if (r < 0)
			return r;
	}
	if (ctx->cgroup >= 0)
		close(ctx->cgroup);
	ctx->ncgroups = 0;
	ctx->cgroup = -1;
	return 0;
}

/* On v2 the child is born in its cgroup (clone3, CLONE_INTO_CGROUP).  Where that cannot be (an older
 * kernel, a cgroup that may hold no processes itself, a user namespace in which it is not ours)
 * *outside says that the host side has to move it.  What can be known is asked before: a pid
 * namespace whose first clone failed half-way takes no other. */
static long clone_init(const struct ctx *ctx, bool *outside)
{
	struct clone_args args = { .flags = CLONE_PARENT };
	long pid = -1;
	int error = 0;

	*outside = ctx->cgroup >= 0;
	if (ctx->cgroup >= 0 && faccessat(ctx->cgroup, "cgroup.procs", W_OK, AT_EACCESS) == 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)ctx->cgroup;
		pid = syscall(SYS_clone3, &args, sizeof(args));
		*outside = pid < 0;
		error = pid < 0 ? errno : 0;
	}
	if (pid < 0)
		pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
	if (pid < 0 && error)
		errno = error; /* a new pid namespace takes no second try: the first reason is the true one */
	return pid;
}

/* The descriptor by which a loaded profile waits for its listener to be fetched, or -1. */
static int seccomp_gate(const struct ctx *ctx)
{
	for (uint32_t i = ctx->at; i < ctx->plan.nops; i++)
		if (ctx->plan.ops[i].code == OP_SECCOMP)
			return (int)ctx->plan.ops[i].num[1] - 1;
	return -1;
}

static void shed(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* The child is going to be among hostile processes, and one that may trace it (CAP_SYS_PTRACE, no
 * user namespace) opens what it has open: the host's procfs, its cgroups, our view of the root. */
static void shed_host(struct ctx *ctx)
{
	ctx->groups_denied = groups_denied(ctx);
	shed(&ctx->proc);
	shed(&ctx->null);
	shed(&ctx->root);
	for (int i = 0; i < ctx->nfds; i++)
		if (i != seccomp_gate(ctx))
			shed(&ctx->fds[i]);
	for (int i = 0; i < MAX_TREES; i++)
		shed(&ctx->trees[i]);
}

/* The new pid and time namespaces hold children only.  CLONE_PARENT makes the child one of the
 * runtime's: no process of ours stays in between. */
int op_fork(struct ctx *ctx, const struct op *op)
{
	bool outside;
	long pid;
	int r;

	if (op->num[0])
		shed_host(ctx);
	pid = clone_init(ctx, &outside);
	if (pid < 0)
		return -errno;
	if (pid > 0) {
		send_msg(ctx, MSG_FORKED, pid, outside ? "outside" : "", -1);
		_exit(0);
	}
	r = guard();
	wait_go(ctx); /* the host side has written down who we are */
	return r < 0 ? r : enter_cgroups(ctx);
}

int op_hostname(struct ctx *ctx, const struct op *op)
{
	(void)ctx;
	return sethostname(op->strs[0].data, op->strs[0].len) < 0 ? -errno : 0;
}

int op_domainname(struct ctx *ctx, const struct op *op)
{
	(void)ctx;
	return setdomainname(op->strs[0].data, op->strs[0].len) < 0 ? -errno : 0;
}

/* -- helpers of the host side ---------------------------------------------------------------- */

/* The namespaces of a process have these names under /proc/PID/ns. */
static const struct {
	const char *name;
	int kind;
} kinds[] = {
	{ "cgroup", CLONE_NEWCGROUP }, { "ipc", CLONE_NEWIPC },	 { "mnt", CLONE_NEWNS },   { "net", CLONE_NEWNET },
	{ "pid", CLONE_NEWPID },       { "time", CLONE_NEWTIME }, { "user", CLONE_NEWUSER }, { "uts", CLONE_NEWUTS },
};

static int kind_of(const char *word, size_t n)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strlen(kinds[i].name) == n && !memcmp(kinds[i].name, word, n))
			return kinds[i].kind;
	return 0;
}

/* nsexec join: a helper of the host side in other namespaces than the host's.  Those of pid and time
 * hold for the children of ARGV only. */
int namespaces_join(int argc, char **argv)
{
	int at = 2;

	for (; at < argc && strcmp(argv[at], "--"); at++) {
		char *path = strchr(argv[at], '=');
		int kind = path ? kind_of(argv[at], (size_t)(path - argv[at])) : 0;
		int fd = kind ? open(path + 1, O_RDONLY | O_CLOEXEC) : -1;

		if (!kind)
			fprintf(stderr, "nsexec: %s is not NAMESPACE=PATH\n", argv[at]);
		else if (fd < 0 || setns(fd, kind) < 0)
			fprintf(stderr, "nsexec: join %s: %s\n", argv[at], go_strerror(errno));
		else
			continue;
		return 2;
	}
	if (at + 1 >= argc)
		return 2;
	execv(argv[at + 1], argv + at + 1);
	fprintf(stderr, "nsexec: execute %s: %s\n", argv[at + 1], go_strerror(errno));
	return 127;
}
