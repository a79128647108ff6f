/* The verbs that need no interpreter.
 *
 * What `state`, `start`, `kill` and `delete` will do is known when `create` ends, so create writes
 * it down beside state.json as ops of the same format (pyoci/plan/verbs.py makes them), and the
 * launcher walks them: a millisecond instead of the ten that an interpreter takes to say the same.
 *
 * Only the plain case is done here, and only what succeeds.  Whatever is unusual (an option not
 * known below, a lock that is held, a paused container, hooks, anything that fails) returns
 * NOT_HERE, and Python does the verb from the beginning: it finds what was already done, and it
 * alone has the words for errors.  So there is no decision and no message in this file. */
#include "nsexec.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NOT_HERE (-1)
#define VERBS_MAX 65536 /* bytes of the file */
#define FIFO "exec.fifo"
#define DEATH_MS 2000 /* an init that was killed is given to end */

/* numbers of the op "verb" */
enum verb { VERB_STATE = 1, VERB_START, VERB_KILL, VERB_DELETE };

struct call {
	enum verb verb;
	const char *root;
	const char *id;
	int signal;
	bool force;
	int dir;       /* ROOT/ID, open */
	int root_fd;
	int pidfd;     /* of init; -1 when it has ended */
	bool alive;
	bool frozen;
	bool waiting;  /* init is at the fifo */
	pid_t pid;
};

/* -- the command line ------------------------------------------------------------------------ */

/* The value of an option that may be written "--opt v", "--opt=v", with one dash or two; NULL when
 * this is another option.  *i is moved past a separate value. */
static const char *value_of(char **argv, int argc, int *i, const char *name)
{
	const char *arg = argv[*i] + 1;
	size_t n = strlen(name);

	arg += *arg == '-';
	if (strncmp(arg, name, n))
		return NULL;
	if (arg[n] == '=')
		return arg + n + 1;
	return !arg[n] && *i + 1 < argc ? argv[++*i] : NULL;
}

static int signal_by_name(const char *name)
{
	char upper[16];
	size_t n = 0;

	for (; name[n] && n < sizeof(upper) - 1; n++)
		upper[n] = (char)toupper((unsigned char)name[n]);
	upper[n] = 0;
	name = strncmp(upper, "SIG", 3) ? upper : upper + 3;
	for (int sig = 1; sig < 32; sig++) {
		const char *known = sigabbrev_np(sig);

		if (known && !strcmp(known, name))
			return sig;
	}
	return NOT_HERE;
}

static int signal_of(const char *text)
{
	char *end;
	long number = strtol(text, &end, 10);

	if (!isdigit((unsigned char)*text))
		return signal_by_name(text);
	return *end || number < 1 || number > 64 ? NOT_HERE : (int)number;
}

/* Ids are names of directories; Python refuses the others in words. */
static bool good_id(const char *id)
{
	if (!*id || !strcmp(id, ".") || !strcmp(id, ".."))
		return false;
	for (const char *p = id; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("_+-.", *p))
			return false;
	return strlen(id) <= NAME_MAX && *id != '-';
}

/* Nor is there a directory of states with control characters in its name. */
static bool good_root(const char *root)
{
	for (const char *p = root; *p; p++)
		if (iscntrl((unsigned char)*p))
			return false;
	return true;
}

static bool parse_global(struct call *call, int argc, char **argv, int *i)
{
	for (; *i < argc && argv[*i][0] == '-'; ++*i) {
		const char *root = value_of(argv, argc, i, "root");
		const char *format = root ? NULL : value_of(argv, argc, i, "log-format");

		if (root)
			call->root = root;
		else if (format ? strcmp(format, "text") && strcmp(format, "json")
				: !value_of(argv, argc, i, "log") && strcmp(argv[*i], "--systemd-cgroup"))
			return false;
	}
	/* the rule for everybody else's default (XDG_RUNTIME_DIR) is Python's */
	if (!call->root && geteuid() == 0 && (!getenv("XDG_RUNTIME_DIR") || !*getenv("XDG_RUNTIME_DIR")))
		call->root = "/run/pyoci";
	return call->root && *call->root && good_root(call->root) && *i < argc;
}

static bool parse(struct call *call, int argc, char **argv)
{
	static const char *const verbs[] = { [VERB_STATE] = "state", [VERB_START] = "start",
					     [VERB_KILL] = "kill", [VERB_DELETE] = "delete" };
	int i = 1;

	if (!parse_global(call, argc, argv, &i))
		return false;
	for (int verb = VERB_STATE; verb <= VERB_DELETE; verb++)
		if (!strcmp(argv[i], verbs[verb]))
			call->verb = (enum verb)verb;
	if (!call->verb || ++i >= argc)
		return false;
	if (call->verb == VERB_DELETE && (!strcmp(argv[i], "--force") || !strcmp(argv[i], "-f"))) {
		call->force = true;
		i++;
	}
	if (i >= argc || !good_id(argv[i]))
		return false;
	call->id = argv[i++];
	if (call->verb == VERB_KILL && i < argc)
		call->signal = signal_of(argv[i++]);
	else if (call->verb == VERB_KILL)
		return false; /* the default signal may come from an annotation */
	return i == argc && call->signal >= 0;
}

/* -- what is there --------------------------------------------------------------------------- */

/* Open ROOT/ID, locked for the verbs that change something.  Only a directory of our own user is
 * believed. */
static bool open_state(struct call *call)
{
	struct stat st;

	call->root_fd = open(call->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (call->root_fd < 0)
		return false;
	call->dir = openat(call->root_fd, call->id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (call->dir < 0 || fstat(call->dir, &st) < 0 || st.st_uid != geteuid() || st.st_mode & 022)
		return false;
	if (call->verb == VERB_STATE)
		return true;
	return flock(call->dir, LOCK_EX | LOCK_NB) == 0 && fstat(call->dir, &st) == 0 && st.st_nlink > 0;
}

static ssize_t read_at(int dir, const char *path, char *data, size_t size)
{
	int fd = openat(dir, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, data, size - 1);

	if (fd >= 0)
		close(fd);
	if (n >= 0)
		data[n] = 0;
	return n;
}

/* Start time of a process, field 22 of /proc/PID/stat; 0 when it has ended.  The name in the second
 * field may hold anything: the last parenthesis ends it. */
static unsigned long long start_time(pid_t pid)
{
	char path[32], data[1024], *p;
	unsigned long long start = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (read_at(AT_FDCWD, path, data, sizeof(data)) < 0 || !(p = strrchr(data, ')')) || strlen(p) < 4)
		return 0;
	p += 2;
	if (*p == 'Z' || *p == 'X')
		return 0;
	for (int field = 3; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	return p && sscanf(p, "%llu", &start) == 1 ? start : 0;
}

static int do_process(struct call *call, const struct op *op)
{
	int fifo;

	call->pid = (pid_t)op->num[0];
	call->pidfd = (int)syscall(SYS_pidfd_open, call->pid, 0);
	if (call->pidfd < 0 && errno != ESRCH)
		return NOT_HERE;
	/* asked once the pidfd holds the pid: from here on it cannot be another process's */
	call->alive = call->pidfd >= 0 && start_time(call->pid) == (unsigned long long)op->num[1];
	/* init is at the fifo as long as somebody reads it */
	fifo = call->alive ? openat(call->dir, FIFO, O_WRONLY | O_NONBLOCK | O_CLOEXEC) : -1;
	if (fifo >= 0)
		close(fifo);
	call->waiting = fifo >= 0;
	return 0;
}

static int do_frozen(struct call *call, const struct op *op)
{
	char word[32];

	if (!call->alive)
		return 0;
	if (read_at(AT_FDCWD, op->strs[0].data, word, sizeof(word)) < 0)
		return NOT_HERE;
	word[strcspn(word, "\n")] = 0;
	call->frozen = strcmp(word, op->strs[1].data) != 0;
	return 0;
}

/* -- what is done ---------------------------------------------------------------------------- */

static int do_report(const struct call *call, const struct op *op)
{
	const char *status = !call->alive   ? "stopped"
			     : call->waiting ? "created"
			     : call->frozen  ? "paused"
					     : "running";
	char *text;
	int n = asprintf(&text, "%s%d%s%s%s", op->strs[0].data, call->alive ? call->pid : 0, op->strs[1].data,
			 status, op->strs[2].data);

	return n < 0 || write_all(1, text, (size_t)n) < 0 ? NOT_HERE : 0;
}

/* Init was let go and failed: what it said is kept for Python, which has the words. */
static void keep_said(const struct call *call, const char *said, size_t size)
{
	int fd = openat(call->dir, "start.said", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return;
	write_all(fd, said, size);
	close(fd);
}

/* Let init go: drain the fifo, and read on until its end closes at execve.  After the filling comes
 * "1", and nothing more if all went well.  See host/fifo.py. */
static int do_release(const struct call *call)
{
	char data[8192], *said;
	size_t used = 0;
	int fd;

	if (!call->alive || !call->waiting || call->frozen)
		return NOT_HERE;
	fd = openat(call->dir, FIFO, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return NOT_HERE;
	for (;;) {
		struct pollfd p = { fd, POLLIN, 0 };
		ssize_t n = used < sizeof(data) ? read(fd, data + used, sizeof(data) - used) : 0;

		if (n < 0 && errno == EAGAIN) {
			poll(&p, 1, -1);
			continue;
		}
		if (n <= 0)
			break;
		used += (size_t)n;
	}
	close(fd);
	said = data;
	while (said < data + used && !*said)
		said++;
	used -= (size_t)(said - data);
	if (used > 1)
		keep_said(call, said, used);
	return used == 1 && unlinkat(call->dir, FIFO, 0) == 0 ? 0 : NOT_HERE;
}

static int do_signal(const struct call *call)
{
	if (!call->alive || call->frozen)
		return NOT_HERE;
	return syscall(SYS_pidfd_send_signal, call->pidfd, call->signal, NULL, 0) < 0 ? NOT_HERE : 0;
}

/* delete: the container must have ended; one that never ran, or with --force any, is ended. */
static int do_end(const struct call *call)
{
	struct pollfd p = { call->pidfd, POLLIN, 0 };

	if (!call->alive)
		return 0;
	if (call->frozen || !(call->waiting || call->force))
		return NOT_HERE;
	if (syscall(SYS_pidfd_send_signal, call->pidfd, SIGKILL, NULL, 0) < 0)
		return NOT_HERE;
	/* an init of a pid namespace ends only when whatever joined it was reaped, and whose that is we
	 * do not know: not for ever, Python says it in words */
	return poll(&p, 1, DEATH_MS) == 1 ? 0 : NOT_HERE;
}

static int do_rmdir(const struct op *op)
{
	return rmdir(op->strs[0].data) < 0 && errno != ENOENT ? NOT_HERE : 0;
}

static int do_unlink(const struct call *call, const struct op *op)
{
	return unlinkat(call->dir, op->strs[0].data, 0) < 0 && errno != ENOENT ? NOT_HERE : 0;
}

/* The end of delete; a file that is not in the plan makes it Python's. */
static int do_forget(const struct call *call)
{
	return unlinkat(call->root_fd, call->id, AT_REMOVEDIR) < 0 ? NOT_HERE : 0;
}

static int step(struct call *call, const struct op *op)
{
	switch (op->code) {
	case OP_PROCESS:
		return do_process(call, op);
	case OP_FROZEN:
		return do_frozen(call, op);
	case OP_REPORT:
		return do_report(call, op);
	case OP_RELEASE:
		return do_release(call);
	case OP_SIGNAL:
		return do_signal(call);
	case OP_END:
		return do_end(call);
	case OP_RMDIR:
		return do_rmdir(op);
	case OP_UNLINK:
		return do_unlink(call, op);
	case OP_FORGET:
		return do_forget(call);
	default:
		return NOT_HERE;
	}
}

/* Walk the part of the plan that begins with this verb. */
static int walk_verb(struct call *call, const struct plan *plan)
{
	bool mine = false, found = false;

	for (uint32_t i = 0; i < plan->nops; i++) {
		const struct op *op = &plan->ops[i];

		if (op->code == OP_VERB)
			found |= mine = op->num[0] == call->verb;
		else if (mine && step(call, op) < 0)
			return NOT_HERE;
	}
	return found ? 0 : NOT_HERE;
}

/* Returns 0 when the verb is done, or NOT_HERE: then the interpreter is to be started. */
int verbs_try(int argc, char **argv)
{
	static char data[VERBS_MAX];
	struct call call = { .pidfd = -1 };
	struct plan plan;
	ssize_t size;
	int r;

	if (!parse(&call, argc, argv) || !open_state(&call))
		return NOT_HERE;
	size = read_at(call.dir, "verbs.plan", data, sizeof(data));
	if (size <= 0 || plan_parse((unsigned char *)data, (size_t)size, &plan))
		return NOT_HERE;
	r = walk_verb(&call, &plan);
	if (r < 0) {
		close(call.dir); /* and with it the lock */
		close(call.root_fd);
		if (call.pidfd >= 0)
			close(call.pidfd);
	}
	return r;
}
