/* nsexec: join or make the namespaces, then walk the plan to execve.
 *
 * Nothing is decided here.  The host side (Python) sends a plan, a list of operations; this program
 * does them in order and stops at the first that fails, saying which and with what errno.  It comes
 * before any interpreter: in a container's namespaces an interpreter would read the container's files.
 *
 *	nsexec plan FD    take a plan from the SEQPACKET socket FD and walk it
 *	nsexec check      read a plan from stdin, say whether it is well formed
 *	nsexec join NAME=PATH... -- ARGV    set these namespaces, then execute ARGV; for helpers of the host side
 */
#include "nsexec.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SYNC_MAPS 1

extern char **environ;

/* -- messages -------------------------------------------------------------------------------- */

/* Keep the detail of an error for the message; returns -error, so that callers return it. */
int detail(struct ctx *ctx, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(ctx->text, sizeof(ctx->text), format, args);
	va_end(args);
	return -error;
}

/* Tell the host side something, with a descriptor unless fd is -1.  After READY there is no socket:
 * then it goes into the fifo, where `start` reads it; without either nobody listens. */
void send_msg(const struct ctx *ctx, uint32_t kind, int64_t value, const char *text, int fd)
{
	struct msg msg = { kind, ctx->at, value };
	struct iovec iov[2] = { { &msg, sizeof(msg) }, { (void *)(uintptr_t)text, strlen(text) } };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct msghdr hdr = { .msg_iov = iov, .msg_iovlen = 2 };

	if (ctx->sock < 0) {
		if (ctx->fifo >= 0 && write(ctx->fifo, &msg, sizeof(msg)) > 0 && iov[1].iov_len)
			write_all(ctx->fifo, text, iov[1].iov_len);
		return;
	}
	if (fd >= 0) {
		hdr.msg_control = control.room;
		hdr.msg_controllen = sizeof(control.room);
		control.head = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
		memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
	}
	if (sendmsg(ctx->sock, &hdr, MSG_NOSIGNAL) < 0)
		_exit(1); /* the runtime is gone, and so must we be */
}

/* Wait for the host side.  Anything but GO, the end of the socket above all, ends us: a killed
 * runtime leaves no half-made container behind. */
static void wait_go(const struct ctx *ctx)
{
	struct msg msg;
	ssize_t n;

	do
		n = recv(ctx->sock, &msg, sizeof(msg), 0);
	while (n < 0 && errno == EINTR);
	if (n != sizeof(msg) || msg.kind != MSG_GO)
		_exit(1);
}

/* Receive the plan's memfd and the descriptors that go with it. */
static int receive_plan(struct ctx *ctx)
{
	struct msg msg;
	struct iovec iov = { &msg, sizeof(msg) };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int) * (MAX_FDS + 1))];
	} control;
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room,
			      .msg_controllen = sizeof(control.room) };
	struct cmsghdr *head;
	size_t count;
	int plan;

	if (recvmsg(ctx->sock, &hdr, MSG_CMSG_CLOEXEC) != sizeof(msg) || msg.kind != MSG_PLAN)
		return -EPROTO;
	head = CMSG_FIRSTHDR(&hdr);
	if (!head || head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS || hdr.msg_flags & MSG_CTRUNC)
		return -EPROTO;
	count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	if (count < 1 || count > MAX_FDS + 1)
		return -EPROTO;
	memcpy(&plan, CMSG_DATA(head), sizeof(int));
	memcpy(ctx->fds, CMSG_DATA(head) + sizeof(int), (count - 1) * sizeof(int));
	ctx->nfds = (int)count - 1;
	return plan;
}

/* -- namespaces ------------------------------------------------------------------------------ */

static int join_one(struct ctx *ctx, const struct op *op)
{
	int64_t index = op->num[1];

	if (index < 0 || index >= ctx->nfds)
		return detail(ctx, EINVAL, "no descriptor %lld", (long long)index);
	return setns(ctx->fds[index], (int)op->num[0]) < 0 ? -errno : 0;
}

/* Joins that stand together are one step.  A namespace may be owned by the user namespace that is
 * joined as well (then the user namespace comes first) or by the host's (then it comes last, for
 * with it the rights over the host's are lost): try all, then the user namespace, then the rest. */
static int op_join(struct ctx *ctx, const struct op *op)
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

static int op_unshare(struct ctx *ctx, const struct op *op)
{
	if (unshare((int)op->num[0]) < 0)
		return -errno;
	return op->num[0] & CLONE_NEWNET ? loopback_up(ctx) : 0;
}

static int op_sync(struct ctx *ctx, const struct op *op)
{
	/* /proc/PID/uid_map of a process that is not dumpable belongs to root: an ordinary user's
	 * runtime could not write it.  Nothing foreign can see us yet. */
	bool open = op->num[0] == SYNC_MAPS && ctx->unprivileged;

	if (open)
		prctl(PR_SET_DUMPABLE, 1);
	send_msg(ctx, MSG_SYNC, op->num[0], "", -1);
	wait_go(ctx);
	if (open)
		prctl(PR_SET_DUMPABLE, 0);
	return 0;
}

/* Offsets can be set until the first process enters the namespace: before the fork. */
static int op_timens(struct ctx *ctx, const struct op *op)
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
	prctl(PR_SET_DUMPABLE, 0);
	return r;
}

static void guard(void)
{
	/* not readable through /proc by the processes whose namespaces we join (CVE-2016-9962),
	 * and never alive without the runtime that answers our questions */
	prctl(PR_SET_DUMPABLE, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/* Open a cgroup while we still have the host's rights and paths; the child of fork goes in. */
static int op_enter(struct ctx *ctx, const struct op *op)
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
static int op_fork(struct ctx *ctx, const struct op *op)
{
	bool outside;
	long pid;

	if (op->num[0])
		shed_host(ctx);
	pid = clone_init(ctx, &outside);
	if (pid < 0)
		return -errno;
	if (pid > 0) {
		send_msg(ctx, MSG_FORKED, pid, outside ? "outside" : "", -1);
		_exit(0);
	}
	guard();
	wait_go(ctx); /* the host side has written down who we are */
	return enter_cgroups(ctx);
}

/* -- system ---------------------------------------------------------------------------------- */

static int op_hostname(struct ctx *ctx, const struct op *op)
{
	(void)ctx;
	return sethostname(op->strs[0].data, op->strs[0].len) < 0 ? -errno : 0;
}

static int op_domainname(struct ctx *ctx, const struct op *op)
{
	(void)ctx;
	return setdomainname(op->strs[0].data, op->strs[0].len) < 0 ? -errno : 0;
}

/* The container is there.  The socket goes: from here on the container does not need the runtime,
 * unless a seccomp listener is still to be handed over. */
static int op_ready(struct ctx *ctx, const struct op *op)
{
	(void)op;
	/* before READY: the runtime may end as soon as it has sent its answer.  Until then a runtime
	 * that was killed is noticed by the end of the socket */
	prctl(PR_SET_PDEATHSIG, 0);
	send_msg(ctx, MSG_READY, 0, "", -1);
	wait_go(ctx);
	if (ctx->at + 1 < ctx->plan.nops && ctx->plan.ops[ctx->at + 1].code == OP_SECCOMP)
		return 0;
	close(ctx->sock);
	ctx->sock = -1;
	return 0;
}

/* The gate between create and start.  The pipe is full, so that write(2) blocks until `start`
 * drains it; it closes at execve, which tells `start` that the program runs. */
static int op_fifo(struct ctx *ctx, const struct op *op)
{
	int64_t index = op->num[0];

	if (index < 0 || index >= ctx->nfds)
		return -EINVAL;
	ctx->fifo = ctx->fds[index];
	return write_all(ctx->fifo, "1", 1);
}

typedef int handler(struct ctx *ctx, const struct op *op);

static handler *const handlers[] = {
	[OP_JOIN] = op_join,
	[OP_UNSHARE] = op_unshare,
	[OP_SYNC] = op_sync,
	[OP_TIMENS] = op_timens,
	[OP_FORK] = op_fork,
	[OP_SETSID] = op_setsid,
	[OP_KEYRING] = op_keyring,
	[OP_ENTER] = op_enter,
	[OP_PROPAGATION] = op_propagation,
	[OP_TREE] = op_tree,
	[OP_ROOTFS] = op_rootfs,
	[OP_MOUNT] = op_mount,
	[OP_BIND] = op_bind,
	[OP_REMOUNT] = op_remount,
	[OP_MASK] = op_mask,
	[OP_UMOUNT] = op_umount,
	[OP_READONLY] = op_readonly,
	[OP_MKDIR] = op_mkdir,
	[OP_MKNOD] = op_mknod,
	[OP_SYMLINK] = op_symlink,
	[OP_CONSOLE] = op_console,
	[OP_CTTY] = op_ctty,
	[OP_PIVOT] = op_pivot,
	[OP_ROOT_HERE] = op_root_here,
	[OP_SUBDIR] = op_subdir,
	[OP_OWN] = op_own,
	[OP_HOSTNAME] = op_hostname,
	[OP_DOMAINNAME] = op_domainname,
	[OP_SYSCTL] = op_sysctl,
	[OP_HOOK] = op_hook,
	[OP_OOM_SCORE_ADJ] = op_oom_score_adj,
	[OP_RLIMIT] = op_rlimit,
	[OP_UMASK] = op_umask,
	[OP_CWD] = op_cwd,
	[OP_BOUNDING] = op_bounding,
	[OP_SETIDS] = op_setids,
	[OP_CAPS] = op_caps,
	[OP_NO_NEW_PRIVS] = op_no_new_privs,
	[OP_SECCOMP] = op_seccomp,
	[OP_HOME] = op_home,
	[OP_LOOKUP] = op_lookup,
	[OP_READY] = op_ready,
	[OP_FIFO] = op_fifo,
	[OP_EXEC] = op_exec,
	[OP_SCHEDULER] = op_scheduler,
	[OP_IO_PRIORITY] = op_io_priority,
	[OP_AFFINITY] = op_affinity,
	[OP_PERSONALITY] = op_personality,
	[OP_MEMPOLICY] = op_mempolicy,
	[OP_LABEL] = op_label,
};

static handler *handler_of(uint16_t code)
{
	return code < sizeof(handlers) / sizeof(handlers[0]) ? handlers[code] : NULL;
}

/* -- the program ----------------------------------------------------------------------------- */

static int by_number(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* Close every descriptor from `first` on that is not one of ours.  The caller of the runtime may
 * have left some open that lead to the host's directories (CVE-2024-21626). */
int close_others(const struct ctx *ctx, unsigned first)
{
	int r = 0, ours[MAX_FDS + MAX_TREES + MAX_CGROUPS + 8], n = 0;
	unsigned from = first;

	ours[n++] = ctx->sock;
	ours[n++] = ctx->proc;
	ours[n++] = ctx->null;
	ours[n++] = ctx->root;
	ours[n++] = ctx->cgroup;
	for (int i = 0; i < ctx->ncgroups; i++)
		ours[n++] = ctx->cgroups[i];
	for (int i = 0; i < ctx->nfds; i++)
		ours[n++] = ctx->fds[i];
	for (int i = 0; i < MAX_TREES; i++)
		ours[n++] = ctx->trees[i];
	qsort(ours, (size_t)n, sizeof(int), by_number);
	for (int i = 0; i < n && r == 0; i++) {
		if (ours[i] < (int)from)
			continue;
		if (ours[i] > (int)from)
			r = close_span(ctx, from, (unsigned)ours[i] - 1);
		from = (unsigned)ours[i] + 1;
	}
	return r < 0 ? r : close_span(ctx, from, ~0u);
}

/* Start from nothing: no environment, signals as a new process has them, a free umask (the modes of
 * what we make are exact), and the procfs that everything later leans on. */
static int prepare(struct ctx *ctx)
{
	static const unsigned long dfl[8]; /* the kernel's struct sigaction: SIG_DFL, no flags */
	static char *nothing[] = { NULL };
	struct stat st;
	sigset_t none;

	guard();
	environ = nothing;
	/* by number: the C library keeps 32 and 33 for itself, and its posix_spawn(3) leaves them ignored */
	for (int sig = 1; sig <= 64; sig++)
		syscall(SYS_rt_sigaction, sig, dfl, NULL, 8);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	umask(0);
	ctx->unprivileged = geteuid() != 0;
	ctx->proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (ctx->proc < 0 || !is_fs(ctx->proc, PROC_SUPER_MAGIC) || fstat(ctx->proc, &st) < 0 || st.st_ino != 1)
		return detail(ctx, ENOENT, "/proc is not a procfs");
	return 0;
}

static unsigned preserved(const struct plan *plan)
{
	const struct op *last = &plan->ops[plan->nops - 1];
	bool sane = last->code == OP_EXEC && last->num[2] >= 0 && last->num[2] < 1 << 20;

	return sane ? (unsigned)last->num[2] : 0;
}

static int load(struct ctx *ctx)
{
	int fd = receive_plan(ctx);
	struct stat st;
	const char *why;
	void *data;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size > PLAN_MAX)
		return detail(ctx, EINVAL, "plan of %lld bytes", (long long)st.st_size);
	data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (data == MAP_FAILED)
		return -errno;
	close(fd);
	why = plan_parse(data, (size_t)st.st_size, &ctx->plan);
	if (why)
		return detail(ctx, EINVAL, "plan: %s", why);
	for (ctx->at = 0; ctx->at < ctx->plan.nops; ctx->at++)
		if (!handler_of(ctx->plan.ops[ctx->at].code))
			return detail(ctx, EINVAL, "this operation is for the launcher");
	ctx->at = 0;
	if ((fd = close_others(ctx, 3 + preserved(&ctx->plan))) < 0)
		return fd;
	/* once we are root of a user namespace only, the files of a process that is not dumpable are closed to us */
	if (!ctx->unprivileged && plan_has_after(ctx, OP_TIMENS))
		ctx->timens = proc_open(ctx, "self/timens_offsets", O_WRONLY);
	return 0;
}

/* Walk the plan.  The last operation, exec, does not come back. */
static void __attribute__((noreturn)) walk(struct ctx *ctx)
{
	int r;

	ctx->at = UINT32_MAX; /* no operation yet: so says an error from here */
	r = prepare(ctx);
	if (r == 0)
		r = load(ctx);
	for (; r == 0 && ctx->at < ctx->plan.nops; ctx->at++) {
		const struct op *op = &ctx->plan.ops[ctx->at];

		r = handler_of(op->code)(ctx, op);
		if (r < 0)
			break;
	}
	if (r < 0) {
		name_refused(ctx, -r);
		send_msg(ctx, MSG_ERROR, -r, ctx->text, -1);
	}
	_exit(r < 0);
}

/* nsexec check: for tests and fuzzing. */
static int check(void)
{
	static unsigned char data[PLAN_MAX + 1];
	size_t size = fread(data, 1, sizeof(data), stdin);
	struct plan plan;
	const char *why = plan_parse(data, size, &plan);

	if (why)
		fprintf(stderr, "nsexec: %s\n", why);
	plan_free(&plan);
	return why != NULL;
}

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
static int join(int argc, char **argv)
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

int nsexec_main(int argc, char **argv)
{
	static struct ctx ctx = { .fifo = -1, .root = -1, .proc = -1, .null = -1, .cgroup = -1, .timens = -1 };

	if (argc == 3 && !strcmp(argv[1], "plan")) {
		ctx.sock = atoi(argv[2]);
		fcntl(ctx.sock, F_SETFD, FD_CLOEXEC);
		for (int i = 0; i < MAX_TREES; i++)
			ctx.trees[i] = -1;
		walk(&ctx);
	}
	if (argc == 2 && !strcmp(argv[1], "check"))
		return check();
	if (argc > 2 && !strcmp(argv[1], "join"))
		return join(argc, argv);
	fprintf(stderr, "nsexec: this is the stage of pyoci that enters the namespaces; pyoci starts it\n");
	return 2;
}
