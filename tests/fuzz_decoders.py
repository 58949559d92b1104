"""Feed the decoders by atheris, which looks for bytes that reach new code: `just fuzz-decoders`.

The first byte chooses the decoder. What it finds goes into `tests/unit/test_decoders.py`.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["api", "schema", "msgspec", "isal"]):
    from tests import decoders

_CHECKS = list(decoders.CHECKS.values())


def _one(data: bytes) -> None:
    if data:
        _CHECKS[data[0] % len(_CHECKS)](data[1:])


def main() -> None:
    """Begin with the good ones."""
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(decoders.CHECKS):
            for at, data in enumerate(decoders.examples()[name]):
                (Path(folder) / f"{name}-{at}").write_bytes(bytes([number]) + data)
        atheris.Setup([*sys.argv, folder], _one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
