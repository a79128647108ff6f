/* The reader of the plan: the one place where bytes from outside are taken apart.
 * Nothing here allocates by a number that was not first held against the size of the input,
 * and nothing is used before it was checked: the rest of nsexec trusts what comes out. */
#include "nsexec.h"

#include <stdlib.h>
#include <string.h>

#define HEADER_SIZE 16
#define RECORD_SIZE (8 + 8 * OP_NUMS)

/* What each operation must bring: how many strings at least, whether more may follow, and
 * which one may hold NUL bytes (-1: none).  A vector of argv and env follows `fixed` strings;
 * its two counts are the numbers at `argc` and the one after it (-1: no vector). */
static const struct rule {
	uint16_t code;
	int8_t fixed;
	int8_t blob;
	int8_t argc;
} rules[] = {
	{ OP_JOIN, 1, -1, -1 },      { OP_UNSHARE, 0, -1, -1 },   { OP_SYNC, 0, -1, -1 },
	{ OP_TIMENS, 1, -1, -1 },    { OP_FORK, 0, -1, -1 },      { OP_SETSID, 0, -1, -1 },
	{ OP_KEYRING, 1, -1, -1 },   { OP_ENTER, 1, -1, -1 },     { OP_PROPAGATION, 0, -1, -1 }, { OP_TREE, 1, -1, -1 },
	{ OP_GATHER, 1, -1, -1 },    { OP_TAKE, 0, -1, -1 },
	{ OP_ROOTFS, 1, -1, -1 },    { OP_MOUNT, 4, -1, -1 },     { OP_BIND, 2, -1, -1 },
	{ OP_REMOUNT, 2, -1, -1 },   { OP_MASK, 1, -1, -1 },      { OP_READONLY, 1, -1, -1 },
	{ OP_MKDIR, 1, -1, -1 },     { OP_MKNOD, 1, -1, -1 },     { OP_SYMLINK, 2, -1, -1 },
	{ OP_CONSOLE, 0, -1, -1 },   { OP_CTTY, 0, -1, -1 },   { OP_STREAMS, 0, -1, -1 },   { OP_PIVOT, 0, -1, -1 },     { OP_ROOT_HERE, 0, -1, -1 },
	{ OP_SEAL, 1, -1, -1 },      { OP_SUBDIR, 2, -1, -1 },    { OP_OWN, 1, -1, -1 },      { OP_UMOUNT, 1, -1, -1 },
	{ OP_HOSTNAME, 1, -1, -1 },  { OP_DOMAINNAME, 1, -1, -1 }, { OP_SYSCTL, 2, -1, -1 },
	{ OP_HOOK, 3, -1, 1 },       { OP_OOM_SCORE_ADJ, 0, -1, -1 }, { OP_RLIMIT, 1, -1, -1 },
	{ OP_UMASK, 0, -1, -1 },     { OP_CWD, 1, -1, -1 },       { OP_BOUNDING, 0, -1, -1 },
	{ OP_SETIDS, 1, 0, -1 },     { OP_CAPS, 0, -1, -1 },      { OP_NO_NEW_PRIVS, 0, -1, -1 },
	{ OP_SECCOMP, 1, 0, -1 },    { OP_HOME, 0, -1, -1 },      { OP_LOOKUP, 2, -1, -1 },
	{ OP_READY, 0, -1, -1 },     { OP_FIFO, 0, -1, -1 },      { OP_EXEC, 0, -1, 0 },
	{ OP_SCHEDULER, 1, -1, -1 }, { OP_IO_PRIORITY, 1, -1, -1 }, { OP_AFFINITY, 2, 1, -1 },
	{ OP_PERSONALITY, 1, -1, -1 }, { OP_MEMPOLICY, 2, 1, -1 }, { OP_LABEL, 3, -1, -1 },
	{ OP_VERB, 0, -1, -1 },      { OP_PROCESS, 0, -1, -1 },   { OP_FROZEN, 2, -1, -1 },
	{ OP_REPORT, 3, -1, -1 },    { OP_RELEASE, 0, -1, -1 },   { OP_SIGNAL, 0, -1, -1 },
	{ OP_END, 0, -1, -1 },       { OP_RMDIR, 1, -1, -1 },     { OP_UNLINK, 1, -1, -1 },
	{ OP_FORGET, 0, -1, -1 },
};

static const struct rule *rule_of(uint16_t code)
{
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		if (rules[i].code == code)
			return &rules[i];
	return NULL;
}

static uint32_t u32(const unsigned char *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint16_t u16(const unsigned char *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

/* Hold one operation against its rule; strings and numbers are in place. */
static const char *check_op(const struct op *op)
{
	const struct rule *rule = rule_of(op->code);

	if (!rule)
		return "unknown operation";
	if (rule->argc < 0 ? op->nstrs != rule->fixed : op->nstrs < rule->fixed)
		return "wrong number of strings";
	if (rule->argc >= 0) {
		int64_t argc = op->num[rule->argc], envc = op->num[rule->argc + 1];

		if (argc < 1 || envc < 0 || argc > UINT16_MAX || envc > UINT16_MAX ||
		    argc + envc != op->nstrs - rule->fixed)
			return "argument counts do not match the strings";
	}
	for (int i = 0; i < op->nstrs; i++)
		if (i != rule->blob && memchr(op->strs[i].data, 0, op->strs[i].len))
			return "NUL byte in a string";
	return NULL;
}

/* Read the strings of one record that ends at `end`; `*next` is the free place in the table. */
static const char *read_strings(const unsigned char *p, const unsigned char *end, struct op *op,
				struct str **next)
{
	op->strs = *next;
	for (int i = 0; i < op->nstrs; i++) {
		uint32_t len;

		if (end - p < 5)
			return "truncated string";
		len = u32(p);
		p += 4;
		if (len >= (size_t)(end - p) || p[len] != 0)
			return "string without its end";
		*(*next)++ = (struct str){ (const char *)p, len };
		p += (size_t)len + 1;
	}
	return end - p < 8 ? NULL : "bytes after the strings";
}

/* One record at p, of which `left` bytes remain in the plan; its size comes back in *size. */
static const char *read_record(const unsigned char *p, size_t left, struct op *op,
			       struct str **next, size_t strs_left, size_t *size)
{
	const char *why;

	if (left < RECORD_SIZE)
		return "truncated record";
	op->code = u16(p);
	op->nstrs = u16(p + 2);
	*size = u32(p + 4);
	if (*size < RECORD_SIZE || *size > left || *size % 8)
		return "wrong record size";
	if (op->nstrs > strs_left)
		return "too many strings";
	for (int i = 0; i < OP_NUMS; i++) {
		const unsigned char *n = p + 8 + 8 * i;

		op->num[i] = (int64_t)((uint64_t)u32(n) | (uint64_t)u32(n + 4) << 32);
	}
	why = read_strings(p + RECORD_SIZE, p + *size, op, next);
	return why ? why : check_op(op);
}

/* Take a plan apart.  Returns NULL, or what is wrong with it in words.  The strings point into
 * `data`, which must outlive the plan. */
const char *plan_parse(const unsigned char *data, size_t size, struct plan *plan)
{
	size_t at = HEADER_SIZE, max_strs = size / 5;
	struct str *next;
	uint32_t count;

	memset(plan, 0, sizeof(*plan));
	if (size < HEADER_SIZE || size > PLAN_MAX || memcmp(data, PLAN_MAGIC, 8))
		return "not a plan of this version";
	count = u32(data + 12);
	if (u32(data + 8) != size || count == 0 || count > size / RECORD_SIZE)
		return "wrong size or count";
	plan->ops = calloc(count, sizeof(*plan->ops));
	plan->strs = next = calloc(max_strs + 1, sizeof(*plan->strs));
	if (!plan->ops || !plan->strs)
		return "out of memory";
	for (; plan->nops < count; plan->nops++) {
		size_t step = 0;
		const char *why = read_record(data + at, size - at, &plan->ops[plan->nops], &next,
					      max_strs - (size_t)(next - plan->strs), &step);

		if (why)
			return why;
		at += step;
	}
	return at == size ? NULL : "bytes after the last operation";
}

void plan_free(struct plan *plan)
{
	free(plan->ops);
	free(plan->strs);
	memset(plan, 0, sizeof(*plan));
}

/* Does an operation of this code follow the one in hand? */
bool plan_has_after(const struct ctx *ctx, uint16_t code)
{
	for (uint32_t i = ctx->at + 1; i < ctx->plan.nops; i++)
		if (ctx->plan.ops[i].code == code)
			return true;
	return false;
}
