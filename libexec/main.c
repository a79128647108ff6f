/*
 * One static binary, two trades.  Called `nsexec` it makes containers; called anything else
 * (`pyoci`, or whatever an engine's symlink is named) it starts the interpreter.  They share a
 * file so that there is one thing to build, install, checksum and seal.
 */
#include <string.h>

#include "launch.h"
#include "nsexec.h"

/*
 * The name we were called by decides.  pyoci itself always passes "nsexec" in full as argv[0]
 * when it runs its sealed copy, so a renamed file cannot change the trade behind its back.  An
 * empty argv (old kernels let a caller do that) is a launcher with nothing to say.
 */
int main(int argc, char **argv)
{
	const char *name = argc > 0 && argv[0] ? strrchr(argv[0], '/') : NULL;

	if (name)
		name++;
	else
		name = argc > 0 && argv[0] ? argv[0] : "";
	if (!strcmp(name, "nsexec"))
		return nsexec_main(argc, argv);
	return launch_main(argc, argv);
}
