"""A command line in the manner of docker's, for the engine of `tests.agent.engine`.

What it is given goes to the engine as it is; what the container writes comes back. As docker's it
hands SIGTERM on, and when it is killed the container runs on.
"""

import base64
import contextlib
import json
import signal
import socket
import sys
from pathlib import Path


def main() -> int:
    """Ask the engine; the exit code that it answers with."""
    argv = sys.argv[1:]
    request: dict[str, object] = {"argv": argv}
    if "--env-file" in argv:
        request["env"] = Path(argv[argv.index("--env-file") + 1]).read_text()
    with socket.socket(socket.AF_UNIX) as engine:
        try:
            engine.connect(str(Path(__file__).with_name("engine.sock")))
        except OSError:
            sys.stderr.write("Cannot connect to the engine\n")
            return 125
        signal.signal(signal.SIGTERM, lambda *_: engine.sendall(b'{"signal": 15}\n'))
        engine.sendall(json.dumps(request).encode() + b"\n")
        for line in engine.makefile("rb"):
            answer = json.loads(line)
            if "code" in answer:
                return int(answer["code"])
            out = sys.stdout if answer["stream"] == "stdout" else sys.stderr
            with contextlib.suppress(BrokenPipeError):
                out.buffer.write(base64.b64decode(answer["data"]))
                out.buffer.flush()
    return 125


if __name__ == "__main__":
    sys.exit(main())
