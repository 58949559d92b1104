"""Names in paths: a group may be called like a branch, `a/b`.

A router parts a path at slashes after they were decoded, so that `/groups/a%2Fb/logs` and
`/groups/a/b/logs` look the same to it. Here the name becomes one segment again, still quoted.
"""

from urllib.parse import unquote

_GROUPS = "/groups/"
_BEHIND = ("/logs/live", "/logs", "/cancel", "/retry")
"""What may stand behind the name of a group; a group that is called so is to be quoted."""


def routed(path: str, raw_path: bytes) -> str:
    """The path for the router, from the one that was decoded and the one that was sent."""
    if not path.startswith(_GROUPS) or not raw_path.startswith(_GROUPS.encode()):
        return path
    name = raw_path.decode(errors="replace").removeprefix(_GROUPS)
    behind = next((each for each in _BEHIND if name.endswith(each)), "")
    return f"{_GROUPS}{name.removesuffix(behind).replace('/', '%2F')}{behind}"


def name_in(segment: str) -> str:
    """What a segment of such a path names."""
    return unquote(segment)
