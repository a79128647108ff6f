/* What busybox cannot see from inside a container.  Static, and it needs no file. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/syscall.h>
#include <unistd.h>

static int verdict(long result)
{
	if (result < 0)
		printf("E%d\n", errno);
	else
		printf("ok %ld\n", result);
	return 0;
}

/* probe syscall NR [ARG...]: make one system call, print "ok RESULT" or "E" and the errno. */
static int do_syscall(int argc, char **argv)
{
	long a[7] = { 0 };
	for (int i = 2; i < argc && i < 9; i++)
		a[i - 2] = (long)strtoull(argv[i], NULL, 0);
	return verdict(syscall(a[0], a[1], a[2], a[3], a[4], a[5], a[6]));
}

/* probe int80 NR: the same without arguments through the 32-bit door of x86. */
static int do_int80(long number)
{
#ifdef __x86_64__
	long result;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(0), "c"(0), "d"(0) : "memory", "r8", "r9", "r10", "r11");
	errno = (int)-(int32_t)result;
	return verdict((int32_t)result < 0 ? -1 : result);
#else
	(void)number;
	puts("unavailable");
	return 0;
#endif
}

/* probe fds: every open descriptor and what it is, without the one that reads the list. */
static int do_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	while (dir && (entry = readdir(dir))) {
		char target[4096] = "";
		int fd = atoi(entry->d_name);
		if (entry->d_name[0] == '.' || fd == dirfd(dir))
			continue;
		if (readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1) < 0)
			continue;
		printf("%d %s\n", fd, target);
	}
	return 0;
}

struct attr { /* sched_setattr(2) */
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

/* probe sched: policy nice priority flags runtime deadline period. */
static int do_sched(void)
{
	struct attr a = { .size = sizeof(a) };
	if (syscall(SYS_sched_getattr, 0, &a, sizeof(a), 0) < 0)
		return verdict(-1);
	printf("%u %d %u %llu %llu %llu %llu\n", a.policy, a.nice, a.priority, (unsigned long long)a.flags,
	       (unsigned long long)a.runtime, (unsigned long long)a.deadline, (unsigned long long)a.period);
	return 0;
}

/* probe ioprio: class and priority of this process. */
static int do_ioprio(void)
{
	long value = syscall(SYS_ioprio_get, 1, 0);
	printf("%ld %ld\n", value >> 13, value & 7);
	return 0;
}

/* probe mempolicy: mode with flags, and the mask of nodes. */
static int do_mempolicy(void)
{
	int mode = -1;
	unsigned long nodes[16] = { 0 };
	if (syscall(SYS_get_mempolicy, &mode, nodes, sizeof(nodes) * 8, 0, 0) < 0)
		return verdict(-1);
	printf("%d %lu\n", mode, nodes[0]);
	return 0;
}

/* probe eat MEGABYTES: touch that much memory, say so, and keep it until stdin ends. */
static int do_eat(int megabytes)
{
	for (int i = 0; i < megabytes; i++) {
		char *block = malloc(1 << 20);
		if (!block)
			return 1;
		memset(block, i + 1, 1 << 20);
	}
	puts("eaten");
	fflush(stdout);
	sleep(100);
	return 0;
}

/* NAME argv FILE ...: for hooks: write the whole argv and environment to a file. */
static int do_argv(int argc, char **argv)
{
	FILE *out = argc > 2 ? fopen(argv[2], "w") : NULL;
	if (!out)
		return 1;
	for (int i = 0; i < argc; i++)
		fprintf(out, "arg %s\n", argv[i]);
	for (char **entry = environ; *entry; entry++)
		fprintf(out, "env %s\n", *entry);
	return fclose(out);
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	if (!strcmp(verb, "syscall"))
		return do_syscall(argc, argv);
	if (!strcmp(verb, "int80") && argc > 2)
		return do_int80(atol(argv[2]));
	if (!strcmp(verb, "fds"))
		return do_fds();
	if (!strcmp(verb, "sched"))
		return do_sched();
	if (!strcmp(verb, "ioprio"))
		return do_ioprio();
	if (!strcmp(verb, "mempolicy"))
		return do_mempolicy();
	if (!strcmp(verb, "personality"))
		return printf("%x\n", (unsigned)personality(0xffffffff)) < 0;
	if (!strcmp(verb, "eat") && argc > 2)
		return do_eat(atoi(argv[2]));
	if (!strcmp(verb, "argv"))
		return do_argv(argc, argv);
	fprintf(stderr, "probe: what is %s?\n", verb);
	return 2;
}
