/* What busybox cannot see from inside a container.  Static, no library calls that need files. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <linux/keyctl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* probe syscall NR [ARG...]: make one system call, print "ok RESULT" or the name of the errno. */
static int do_syscall(int argc, char **argv)
{
	long a[7] = { 0 };
	for (int i = 2; i < argc && i < 9; i++)
		a[i - 2] = (long)strtoull(argv[i], NULL, 0);
	long result = syscall(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
	if (result < 0)
		puts(strerrorname_np(errno));
	else
		printf("ok %ld\n", result);
	return 0;
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

/* probe keyring: serial and description of the session keyring. */
static int do_keyring(void)
{
	char text[256] = "";
	long id = syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0);
	syscall(SYS_keyctl, KEYCTL_DESCRIBE, id, text, sizeof(text) - 1);
	printf("%ld %s\n", id, text);
	return 0;
}

static void print_file(const char *path)
{
	char block[4096];
	FILE *file = fopen(path, "r");
	size_t n;
	while (file && (n = fread(block, 1, sizeof(block), file)) > 0)
		fwrite(block, 1, n, stdout);
	if (file)
		fclose(file);
}

/* probe self: what it was given, each part under a line "-- NAME". */
static int do_self(void)
{
	static const char *const files[] = { "/proc/self/status", "/proc/self/limits", "/proc/self/mountinfo",
					     "/proc/self/oom_score_adj", "/proc/sys/kernel/hostname",
					     "/proc/sys/kernel/shmmax" };
	char cwd[4096] = "";
	puts("-- fds");
	do_fds();
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		printf("-- %s\n", strrchr(files[i], '/') + 1);
		print_file(files[i]);
	}
	puts("-- keyring");
	do_keyring();
	printf("-- cwd\n%s\n-- end\n", getcwd(cwd, sizeof(cwd)));
	return 0;
}

/* probe eat MEGABYTES: touch that much memory, then say so. */
static int do_eat(int megabytes)
{
	for (int i = 0; i < megabytes; i++) {
		char *block = malloc(1 << 20);
		if (!block)
			return 1;
		memset(block, i + 1, 1 << 20);
	}
	puts("eaten");
	return 0;
}

/* probe forks N: how many of N children that only wait could be made. */
static int do_forks(int wanted)
{
	int made = 0;
	pid_t children[1024];
	while (made < wanted && made < 1024 && (children[made] = fork()) >= 0) {
		if (children[made] == 0) {
			pause();
			_exit(0);
		}
		made++;
	}
	for (int i = 0; i < made; i++)
		kill(children[i], SIGKILL);
	printf("%d\n", made);
	return 0;
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	if (!strcmp(verb, "syscall"))
		return do_syscall(argc, argv);
	if (!strcmp(verb, "fds"))
		return do_fds();
	if (!strcmp(verb, "keyring"))
		return do_keyring();
	if (!strcmp(verb, "self"))
		return do_self();
	if (!strcmp(verb, "eat"))
		return do_eat(atoi(argv[2]));
	if (!strcmp(verb, "forks"))
		return do_forks(atoi(argv[2]));
	fprintf(stderr, "probe: what is %s?\n", verb);
	return 2;
}
