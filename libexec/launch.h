#ifndef PYOCI_LAUNCH_H
#define PYOCI_LAUNCH_H

/* Starts the interpreter on the pyoci package.  Returns only when it could not: the exit status then. */
int launch_main(int argc, char **argv);

#endif
