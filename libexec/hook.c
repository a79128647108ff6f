/* Hooks that run in the container's namespaces: createContainer and startContainer. */
#include "nsexec.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define OUTPUT_MAX 4096

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Where the output goes: a file that came with the plan (number is one more than its index), or to us. */
static int output(const struct ctx *ctx, int64_t number, int out)
{
	return number > 0 && number <= ctx->nfds ? ctx->fds[number - 1] : out;
}

/* The child's side: a group of its own (a timeout kills all of it), the state on stdin, its output
 * to us, and nothing else open. */
static void __attribute__((noreturn)) run(const struct ctx *ctx, const struct op *op, int in, int out)
{
	int64_t argc = op->num[1], envc = op->num[2];
	char **argv = calloc((size_t)argc + 1, sizeof(*argv)), **envp = calloc((size_t)envc + 1, sizeof(*envp));

	if (!argv || !envp)
		_exit(127);
	for (int64_t i = 0; i < argc; i++)
		argv[i] = (char *)(uintptr_t)op->strs[3 + i].data;
	for (int64_t i = 0; i < envc; i++)
		envp[i] = (char *)(uintptr_t)op->strs[3 + argc + i].data;
	if (setpgid(0, 0) < 0 || signal(SIGPIPE, SIG_DFL) == SIG_ERR)
		_exit(127);
	if (dup2(in, 0) < 0 || dup2(output(ctx, op->num[3], out), 1) < 0 || dup2(output(ctx, op->num[4], out), 2) < 0)
		_exit(127);
	if (close_others(ctx, 3) < 0)
		_exit(127);
	execve(op->strs[0].data, argv, envp);
	dprintf(2, "%s\n", go_strerror(errno));
	_exit(127);
}

/* Keep the end of what the hook prints: what fits, the newest last. */
static void keep(char *output, size_t *used, const char *data, size_t n)
{
	if (n > OUTPUT_MAX) {
		data += n - OUTPUT_MAX;
		n = OUTPUT_MAX;
	}
	if (*used + n > OUTPUT_MAX) {
		size_t drop = *used + n - OUTPUT_MAX;

		memmove(output, output + drop, *used - drop);
		*used -= drop;
	}
	memcpy(output + *used, data, n);
	*used += n;
}

/* One hook under way. */
struct running {
	int pidfd, in, out;
	const char *state; /* what is still to be written to it */
	size_t left;
	char output[OUTPUT_MAX + 1];
	size_t used;
};

static void feed(struct running *h)
{
	ssize_t n = write(h->in, h->state, h->left);

	if (n < 0 && errno == EAGAIN)
		return;
	h->left = n > 0 ? h->left - (size_t)n : 0; /* it does not read: its choice */
	h->state += n > 0 ? n : 0;
	if (!h->left) {
		close(h->in);
		h->in = -1;
	}
}

/* Returns false at the end of the output, or when nothing more is there. */
static bool drain(struct running *h)
{
	char block[1024];
	ssize_t n = read(h->out, block, sizeof(block));

	if (n > 0)
		keep(h->output, &h->used, block, (size_t)n);
	return n > 0;
}

/* Feed the state and keep the output until the hook has ended or time is up.  What it left running
 * in the background may hold the output open: the end of the hook itself is what counts. */
static int talk(struct running *h, int64_t deadline)
{
	for (;;) {
		struct pollfd p[3] = { { h->pidfd, POLLIN, 0 }, { h->out, POLLIN, 0 }, { h->in, POLLOUT, 0 } };
		int64_t wait = deadline ? deadline - now_ms() : -1;

		if (deadline && wait <= 0)
			return -ETIMEDOUT;
		if (poll(p, 3, wait > INT_MAX ? INT_MAX : (int)wait) < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (p[2].revents)
			feed(h);
		if (p[1].revents && !drain(h)) {
			close(h->out);
			h->out = -1;
		}
		if (p[0].revents && h->out >= 0)
			while (drain(h))
				;
		if (p[0].revents)
			return 0;
	}
}

/* The last line of the output, for the error. */
static const char *last_line(char *output, size_t used)
{
	char *line;

	while (used && (output[used - 1] == '\n' || output[used - 1] == ' '))
		used--;
	output[used] = 0;
	line = strrchr(output, '\n');
	return line ? line + 1 : output;
}

static int supervise(struct ctx *ctx, const struct op *op, pid_t pid, struct running *h)
{
	int64_t deadline = op->num[0] ? now_ms() + op->num[0] : 0;
	int status = 0, r;
	char *state;

	h->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	r = h->pidfd < 0 ? -errno : 0;
	if (asprintf(&state, "%s%d%s", op->strs[1].data, getpid(), op->strs[2].data) < 0)
		return -ENOMEM;
	h->state = state;
	h->left = strlen(state);
	if (r == 0)
		r = talk(h, deadline);
	if (r < 0) {
		kill(-pid, SIGKILL);
		kill(pid, SIGKILL);
	}
	waitpid(pid, &status, 0);
	free(state);
	if (r == 0 && status == 0)
		return 0;
	send_msg(ctx, MSG_HOOK_FAILED, r < 0 ? r : status, last_line(h->output, h->used), -1);
	_exit(1);
}

int op_hook(struct ctx *ctx, const struct op *op)
{
	struct running *h = calloc(1, sizeof(*h));
	int in[2], out[2], r;
	pid_t pid;

	if (!h)
		return -ENOMEM;
	if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
		return -errno;
	if (fcntl(in[1], F_SETFL, O_NONBLOCK) < 0 || fcntl(out[0], F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR) /* it may not read its stdin */
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		run(ctx, op, in[0], out[1]);
	close(in[0]);
	close(out[1]);
	h->in = in[1];
	h->out = out[0];
	r = supervise(ctx, op, pid, h);
	close(h->pidfd);
	if (h->in >= 0)
		close(h->in);
	if (h->out >= 0)
		close(h->out);
	free(h);
	return signal(SIGPIPE, SIG_DFL) == SIG_ERR ? -errno : r;
}
