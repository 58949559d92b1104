"""Bytes as people write them in a setting: `500M`, `2G`, or a share of a disk, `5%`."""

# `$` alone would let a last newline pass.
SIZE = r"^[0-9]{1,15}[KMGT]?$(?!\n)"
SIZE_OR_SHARE = r"^([0-9]{1,15}[KMGT]?|[0-9]{1,2}(\.[0-9]+)?%)$(?!\n)"

_UNITS = {unit: 1 << 10 * power for power, unit in enumerate("KMGT", 1)}


def in_bytes(text: str, whole: int = 0) -> int:
    """Read what matches SIZE_OR_SHARE; a share is of `whole`."""
    if text.endswith("%"):
        return int(whole * float(text[:-1]) / 100)
    if text[-1] in _UNITS:
        return int(text[:-1]) * _UNITS[text[-1]]
    return int(text)


def shown(amount: int) -> str:
    """As `1.5 GiB`."""
    for unit, size in reversed(_UNITS.items()):
        if amount >= size:
            return f"{amount / size:.1f} {unit}iB"
    return f"{amount} bytes"
