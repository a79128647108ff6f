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
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

extern char **environ;

/* -- the gates -------------------------------------------------------------------------------- */

/* The container is there.  The socket goes: from here on the container does not need the runtime,
 * unless a seccomp listener is still to be handed over. */
static int op_ready(struct ctx *ctx, const struct op *op)
{
	(void)op;
	/* before READY: the runtime may end as soon as it has sent its answer.  Until then a runtime
	 * that was killed is noticed by the end of the socket */
	if (prctl(PR_SET_PDEATHSIG, 0) < 0)
		return -errno;
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
	[OP_GATHER] = op_gather,
	[OP_TAKE] = op_take,
	[OP_ROOTFS] = op_rootfs,
	[OP_MOUNT] = op_mount,
	[OP_BIND] = op_bind,
	[OP_REMOUNT] = op_remount,
	[OP_MASK] = op_mask,
	[OP_UMOUNT] = op_umount,
	[OP_READONLY] = op_readonly,
	[OP_SEAL] = op_seal,
	[OP_MKDIR] = op_mkdir,
	[OP_MKNOD] = op_mknod,
	[OP_SYMLINK] = op_symlink,
	[OP_CONSOLE] = op_console,
	[OP_CTTY] = op_ctty,
	[OP_PIVOT] = op_pivot,
	[OP_ROOT_HERE] = op_root_here,
	[OP_SUBDIR] = op_beside,
	[OP_OWN] = op_beside,
	[OP_HOSTNAME] = op_hostname,
	[OP_DOMAINNAME] = op_domainname,
	[OP_SYSCTL] = op_sysctl,
	[OP_HOOK] = op_hook,
	[OP_STREAMS] = op_streams,
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

int guard(void)
{
	/* not readable through /proc by the processes whose namespaces we join (CVE-2016-9962),
	 * and never alive without the runtime that answers our questions */
	return prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ? -errno : 0;
}

/* Signals as a new process has them: by number, as the C library keeps 32 and 33 for itself, and its
 * posix_spawn(3) leaves them ignored.  SIGKILL and SIGSTOP cannot be anything else. */
static int default_signals(void)
{
	static const unsigned long dfl[8]; /* the kernel's struct sigaction: SIG_DFL, no flags */
	sigset_t none;

	for (int sig = 1; sig <= 64; sig++)
		if (sig != SIGKILL && sig != SIGSTOP && syscall(SYS_rt_sigaction, sig, dfl, NULL, 8) < 0)
			return -errno;
	sigemptyset(&none);
	return sigprocmask(SIG_SETMASK, &none, NULL) < 0 ? -errno : 0;
}

/* Start from nothing: no environment, signals as a new process has them, a free umask (the modes of
 * what we make are exact), and the procfs that everything later leans on. */
static int prepare(struct ctx *ctx)
{
	static char *nothing[] = { NULL };
	struct stat st;
	int r = guard();

	environ = nothing;
	if (r == 0)
		r = default_signals();
	if (r == 0 && fcntl(ctx->sock, F_SETFD, FD_CLOEXEC) < 0)
		r = -errno;
	if (r < 0)
		return r;
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
	unsigned char *data = malloc(PLAN_MAX + 1); /* an array would be a part of every process, under ulimit -v too */
	size_t size = data ? fread(data, 1, PLAN_MAX + 1, stdin) : 0;
	struct plan plan;
	const char *why = plan_parse(data, size, &plan);

	if (why)
		fprintf(stderr, "nsexec: %s\n", why);
	plan_free(&plan);
	free(data);
	return why != NULL;
}

int nsexec_main(int argc, char **argv)
{
	static struct ctx ctx = { .fifo = -1, .root = -1, .proc = -1, .null = -1, .cgroup = -1, .timens = -1 };

	if (argc == 3 && !strcmp(argv[1], "plan")) {
		ctx.sock = atoi(argv[2]);
		for (int i = 0; i < MAX_TREES; i++)
			ctx.trees[i] = -1;
		walk(&ctx);
	}
	if (argc == 2 && !strcmp(argv[1], "check"))
		return check();
	if (argc > 2 && !strcmp(argv[1], "join"))
		return namespaces_join(argc, argv);
	fprintf(stderr, "nsexec: this is the stage of pyoci that enters the namespaces; pyoci starts it\n");
	return 2;
}
