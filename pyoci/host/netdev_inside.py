"""What host.netdev needs done in a container's network namespace, into which nsexec starts this program.

The request comes on stdin: {"name": DEVICE, "addresses": [...]} to give the device addresses and set it up, or
{"name": DEVICE, "back": NAME, "pid": PID} to move it to the namespace of process PID as NAME.
"""

import os
import sys

sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from pyoci import cold, errors, json
from pyoci.host import netdev


def main() -> str:
    """Do what is asked.  Returns the reason of a failure, "" for none."""
    request = json.loads(sys.stdin.buffer.read(), "request")
    try:
        with cold.load("pyroute2").IPRoute() as route:
            if "back" in request:
                index = route.link_lookup(ifname=request["name"])[0]
                with open(f"/proc/{request['pid']}/ns/net", "rb") as namespace:
                    route.link("set", index=index, net_ns_fd=namespace.fileno(), ifname=request["back"])
            else:
                netdev.settle(route, request["name"], request["addresses"], up=True)
    except Exception as error:
        number = getattr(error, "code", 0) or getattr(error, "errno", 0) or 0
        return errors.errno_text(number) if number else str(error)
    return ""


if __name__ == "__main__":
    reason = main()
    sys.stdout.write(reason)
    sys.stdout.flush()
    sys.exit(bool(reason))
