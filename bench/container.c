/*
 * What the measured containers run: nothing at all, or, with an argument, nothing for ever.  Static and
 * without a shell, so that the numbers are the runtime's own.
 */
#include <unistd.h>

int main(int argc, char **argv)
{
	(void)argv;
	while (argc > 1)
		pause();
	return 0;
}
