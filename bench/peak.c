/*
 * peak COMMAND ARGS...: runs the command and prints the largest ru_maxrss (KiB) among it and the
 * processes it waited for.  In C because exec keeps the high-water mark of the process that called
 * it: a child of a Python program would never show less than that program's own memory.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct rusage usage;
	int status;
	pid_t pid;

	if (argc < 2)
		return 2;
	pid = fork();
	if (pid < 0)
		return 1;
	if (pid == 0) {
		/* The command's stdout may be a JSON state: it must not mix with our number. */
		dup2(STDERR_FILENO, STDOUT_FILENO);
		execv(argv[1], argv + 1);
		_exit(127);
	}
	if (wait4(pid, &status, 0, &usage) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return 1;
	printf("%ld\n", usage.ru_maxrss);
	return 0;
}
