"""Workers of notifications that start at once: everything is imported, then a line on stdin forks one.

    python -m bench.fork_worker      ->  "spawn" on stdin, the process id on stdout; stdin's end kills them all

A worker that is killed every second would otherwise spend its life importing. What runs in the fork is the service's
own command line; nothing of gRPC or of an event loop is started before the fork.
"""

import os
import runpy
import signal
import sys

import services.notifications.app  # noqa: F401 - that is what it is for


def main() -> None:
    """Forks for each line."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    children = []
    for _line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            sys.argv = ["notifications", "worker"]
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            runpy.run_module("services.notifications", run_name="__main__")
            os._exit(0)
        children.append(child)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
    for child in children:
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    main()
