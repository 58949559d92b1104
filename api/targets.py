"""What a request may ask for by its path and query, in length.

litestar keeps the last 1,024 paths and queries that it has taken apart, for good: so many queries
of 32 KB took 1.2 GB of a worker.
"""

from http import HTTPStatus

from litestar._kwargs.extractors import create_query_default_dict
from litestar._parsers import parse_query_string
from litestar.types import HTTPScope

from api.problems import ProblemError

MOST_PATH_CHARS = 4096
MOST_QUERY_BYTES = 32_768
"""A thousand task numbers take 23 KB."""
_KEPT_BYTES = 256


def check_path(scope: HTTPScope) -> None:
    """414 where it is too long."""
    if len(scope["path"]) > MOST_PATH_CHARS:
        raise ProblemError(
            HTTPStatus.REQUEST_URI_TOO_LONG,
            f"the path is longer than {MOST_PATH_CHARS} characters",
        )


def check_query(scope: HTTPScope) -> bool:
    """414 where it is too long; tells whether it must be forgotten when it has been answered."""
    size = len(scope["query_string"])
    if size > MOST_QUERY_BYTES:
        raise ProblemError(
            HTTPStatus.REQUEST_URI_TOO_LONG,
            f"the query is longer than {MOST_QUERY_BYTES} bytes",
        )
    return size > _KEPT_BYTES


def forget_queries() -> None:
    """Let go of what litestar keeps."""
    parse_query_string.cache_clear()
    create_query_default_dict.cache_clear()
