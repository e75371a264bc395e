"""Runs in the agent's jail, before the agent: limits, and the one way out. Uses the standard library alone.

The jail has no network. This program listens on the jail's own loopback and passes bytes on to the socket of the proxy, which
the harness put into the jail. It ends when the agent ends, with its exit status; everything inside ends with it.
"""

import contextlib
import json
import resource
import socket
import subprocess
import sys
import threading


def main() -> int:
    """Standard input: a JSON object with `argv`, `environment`, `folder`, `socket`, `port` and `limits`."""
    job = json.loads(sys.stdin.read())
    for kind, value in job["limits"]:
        resource.setrlimit(kind, (value, value))
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", job["port"]))
    listener.listen(64)
    threading.Thread(target=_accept, args=(listener, job["socket"]), daemon=True).start()
    try:
        agent = subprocess.Popen(job["argv"], env=job["environment"], cwd=job["folder"], stdin=subprocess.DEVNULL)
    except OSError as error:
        sys.stderr.write(f"cannot be started: {error}\n")
        return 127
    status = agent.wait()
    return status if status >= 0 else 128 - status


def _accept(listener: socket.socket, path: str) -> None:
    while True:
        near, _ = listener.accept()
        far = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            far.connect(path)
        except OSError:
            near.close()
            far.close()
            continue
        for one, other in ((near, far), (far, near)):
            threading.Thread(target=_pass, args=(one, other), daemon=True).start()


def _pass(one: socket.socket, other: socket.socket) -> None:
    """Everything that `one` says to `other`; the end of it too."""
    with contextlib.suppress(OSError):
        while part := one.recv(1 << 16):
            other.sendall(part)
    with contextlib.suppress(OSError):
        other.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    sys.exit(main())
