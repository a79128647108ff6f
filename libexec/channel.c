/* The messages between nsexec and the host side: docs/ARCHITECTURE.md, "The protocol". */
#include "nsexec.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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
void wait_go(const struct ctx *ctx)
{
	struct msg msg;
	ssize_t n;

	do
		n = recv(ctx->sock, &msg, sizeof(msg), 0);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		send_msg(ctx, MSG_ERROR, errno, "", -1);
	if (n != sizeof(msg) || msg.kind != MSG_GO)
		_exit(1);
}

/* Receive the plan's memfd and the descriptors that go with it. */
int receive_plan(struct ctx *ctx)
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
