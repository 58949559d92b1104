"""A neighbour: asks for something small again and again, until its standard input ends.

`python neighbour.py PORT` writes how long the slowest answer took, in seconds, and how many it got.
Each comes by a connection of its own, so that every worker is asked.
"""

import select
import socket
import sys
import time

_ASK = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_PAUSE_S = 0.003


def main() -> None:
    """Ask."""
    address = ("127.0.0.1", int(sys.argv[1]))
    print("asking", flush=True)
    slowest_s, answers = 0.0, 0
    while True:
        begun = time.monotonic()
        with socket.create_connection(address, timeout=60) as one:
            one.sendall(_ASK)
            answer = b""
            while data := one.recv(1000):
                answer += data
        slowest_s = max(slowest_s, time.monotonic() - begun)
        if not answer.startswith(b"HTTP/1.1 200 "):
            sys.exit(f"a neighbour was answered {answer!r}")
        answers += 1
        if select.select([sys.stdin], [], [], _PAUSE_S)[0]:
            print(slowest_s, answers)
            return


if __name__ == "__main__":
    main()
