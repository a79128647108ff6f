"""The command: `python3 -I -S .../pyoci/mydocker/__main__.py ARGS...`, which is what the launcher executes."""

import sys

# -I -S put nothing of ours on the path: the package's own directory first for `import pyoci`, last in order, so
# that nothing beside it stands before the standard library.
sys.path.append(__file__.rpartition("/pyoci/mydocker/")[0])

import pyoci

sys.path += [directory for directory in pyoci.site_directories() if directory not in sys.path]

from pyoci.mydocker import cli

sys.exit(cli.main(sys.argv[1:]))
