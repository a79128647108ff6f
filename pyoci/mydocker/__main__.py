"""The command: `python3 -I -S .../pyoci/mydocker/__main__.py ARGS...`, which is what the launcher executes."""

import sys

# -I -S put nothing of ours on the path. Last, so that what lies beside the package stands before nothing of the
# standard library.
sys.path.append(__file__.rpartition("/pyoci/mydocker/")[0])

import pyoci

sys.path += [directory for directory in pyoci.site_directories() if directory not in sys.path]

try:
    from pyoci.mydocker import cli
except ModuleNotFoundError as error:
    sys.exit(f"mydocker: the Python package {error.name} is missing; hint: install pyoci with pip, which brings it")

sys.exit(cli.main(sys.argv[1:]))
