"""The command: `python3 -I -S .../pyoci/__main__.py ARGS...`, which is what the launcher executes."""

import os
import sys

# -I puts neither this directory nor the working directory on the path.  Last, not first: nothing
# that lies beside the package may stand before the standard library.
sys.path.append(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from pyoci import cli

# _exit: taking the interpreter apart costs a millisecond, and all output has been written.
os._exit(cli.main(sys.argv[1:]))
