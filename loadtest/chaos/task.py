"""What every task of a campaign runs: known bytes to both streams, and a journal of all it does.

    python -S -E -I task.py JOURNAL seed=7 out=1000 err=20 seconds=0.5 codes=3,0

An interpreter without its site packages starts in 10 ms; `random` takes 4 more, `signal` 7.
A line of the journal is one write to a file opened for appending, so that lines of many processes
do not mix:

    BOOT_NS TASK ATTEMPT AGENT PID EVENT [OUT ERR | CODE]

`start`, then `beat` every 50 ms with the bytes written so far, `child` for each beat of a process
that the task left in a session of its own, and `end` with the exit code before it exits.
"""

import os
import random
import sys
import time
from _thread import start_new_thread
from collections.abc import Callable, Mapping

BEAT_S = 0.05
_LINE_BYTES = 40


def content(seed: int, attempt: int, stream: int, size: int, *, binary: bool) -> bytes:
    """All that an attempt writes to a stream (1 or 2) if nothing ends it before.

    No two lines are the same, so that a piece at the wrong place, of the wrong attempt or task
    shows.
    """
    noise = random.Random((seed * 1_000 + attempt) * 10 + stream).randbytes
    if binary:
        return noise(size)
    return noise(size // 2 + 1).hex("\n", _LINE_BYTES).encode()[:size]


def _journal(path: str) -> Callable[..., None]:
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    who = " ".join(os.environ[f"DW_{name}"] for name in ("TASK_ID", "ATTEMPT", "AGENT"))

    def write(event: str, *more: int) -> None:
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        words = (now_ns, who, os.getpid(), event, *more)
        os.write(file, (" ".join(map(str, words)) + "\n").encode())

    return write


def _leave_child(write: Callable[..., None], seconds: float, *, keeps_output: bool) -> None:
    """Leave a process behind that no signal to the task's group reaches."""
    if os.fork():
        return
    os.setsid()
    if not keeps_output:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        write("child")
        time.sleep(BEAT_S)
    os._exit(0)


def _write_all(stream: int, data: bytes, written: list[int]) -> None:
    rest = memoryview(data)
    while rest:
        count = os.write(stream, rest)
        written[stream - 1] += count
        rest = rest[count:]


def main(journal: str, words: Mapping[str, str]) -> None:
    """Run one attempt; never returns."""
    attempt = int(os.environ["DW_ATTEMPT"])
    number = {name: int(words.get(name, 0)) for name in ("seed", "out", "err", "children", "dies")}
    seconds = float(words.get("seconds", 0))
    codes = words.get("codes", "0").split(",")
    write = _journal(journal)
    write("start")
    if "deaf" in words:
        import signal  # noqa: PLC0415 - costs 7 ms

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for _ in range(number["children"]):
        _leave_child(write, seconds + 20, keeps_output="keeps" in words)
    written = [0, 0]

    def beat() -> None:
        while True:
            time.sleep(BEAT_S)
            write("beat", *written)

    start_new_thread(beat, ())  # also while the stream is full and nobody reads it
    binary = "binary" in words
    whole = [
        content(number["seed"], attempt, stream, number[name], binary=binary)
        for stream, name in ((1, "out"), (2, "err"))
    ]
    steps = int(seconds / BEAT_S) + 1
    for step in range(steps):
        for stream, data in enumerate(whole, start=1):
            part = slice(len(data) * step // steps, len(data) * (step + 1) // steps)
            _write_all(stream, data[part], written)
        if step:
            time.sleep(seconds / steps)
    if number["dies"]:
        os.kill(os.getpid(), number["dies"])
    code = int(codes[(attempt - 1) % len(codes)])
    write("end", code)
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1], dict(word.split("=", 1) for word in sys.argv[2:]))
