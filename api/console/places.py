"""Where a form leads back to. Pure."""

import re

# Our own pages only. What may stand there cannot name another host, however a browser reads it.
_INSIDE = re.compile(r"/(?:console/[!-\[\]-~]*|\?[!-\[\]-~]*)?")
_MOST = 2000


def inside(place: str) -> str:
    """That place if it is one of the console's, else the first page."""
    return place if len(place) <= _MOST and _INSIDE.fullmatch(place) else "/"
