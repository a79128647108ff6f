/* What a process carries along besides its identity: scheduling, placement, persona, labels. */
#include "nsexec.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched/types.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/syscall.h>
#include <unistd.h>

#define IOPRIO_WHO_PROCESS 1
#define IOPRIO_CLASS_SHIFT 13
#define MASK_MAX 8192 /* bytes of a CPU or node mask */

/* Of this process, or of another that was forked: a deadline is not inherited, nor is the flag that says so. */
int op_scheduler(struct ctx *ctx, const struct op *op)
{
	struct sched_attr attr = { .size = sizeof(attr),
				   .sched_policy = (uint32_t)op->num[0],
				   .sched_nice = (int32_t)op->num[1],
				   .sched_priority = (uint32_t)op->num[2],
				   .sched_flags = (uint64_t)op->num[3],
				   .sched_runtime = (uint64_t)op->num[4],
				   .sched_deadline = (uint64_t)op->num[5],
				   .sched_period = (uint64_t)op->num[6] };

	(void)ctx;
	return syscall(SYS_sched_setattr, (pid_t)op->num[7], &attr, 0) < 0 ? -errno : 0;
}

int op_io_priority(struct ctx *ctx, const struct op *op)
{
	(void)ctx;
	return syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, op->num[0] << IOPRIO_CLASS_SHIFT | op->num[1]) < 0 ? -errno : 0;
}

/* The mask is a string of bytes; the kernel reads longs. */
static int mask_of(const struct str *bytes, unsigned long mask[MASK_MAX / sizeof(long)])
{
	if (bytes->len > MASK_MAX)
		return -EINVAL;
	memset(mask, 0, MASK_MAX);
	memcpy(mask, bytes->data, bytes->len);
	return 0;
}

int op_affinity(struct ctx *ctx, const struct op *op)
{
	unsigned long mask[MASK_MAX / sizeof(long)];
	int r = mask_of(&op->strs[1], mask);

	(void)ctx;
	return r < 0 ? r : syscall(SYS_sched_setaffinity, 0, sizeof(mask), mask) < 0 ? -errno : 0;
}

int op_mempolicy(struct ctx *ctx, const struct op *op)
{
	unsigned long mask[MASK_MAX / sizeof(long)];
	size_t bits = op->strs[1].len * 8;
	int r = mask_of(&op->strs[1], mask);

	(void)ctx;
	/* the kernel takes one bit less than it is told */
	return r < 0 ? r : syscall(SYS_set_mempolicy, op->num[0], bits ? mask : NULL, bits ? bits + 1 : 0) < 0 ? -errno : 0;
}

int op_personality(struct ctx *ctx, const struct op *op)
{
	(void)ctx;
	return personality((unsigned long)op->num[0]) < 0 ? -errno : 0;
}

/* A label of a security module that the next execve(2), or key, gets.  AppArmor has a directory of its
 * own since Linux 5.8; before, it shared the files of the others. */
int op_label(struct ctx *ctx, const struct op *op)
{
	int fd = proc_open(ctx, op->strs[0].data, O_WRONLY), r;

	if (fd == -ENOENT && op->strs[1].len)
		fd = proc_open(ctx, op->strs[1].data, O_WRONLY);
	if (fd < 0)
		return fd;
	r = write(fd, op->strs[2].data, op->strs[2].len) < 0 ? -errno : 0; /* at once, or it is another label */
	close(fd);
	return r;
}
