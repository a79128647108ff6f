"""What is below is for the virtual machine alone, where $PYOCI_VM is set; tests/vm/report.py shows its results."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("PYOCI_VM") else ["*"]
