"""The method of a request. Routes see HEAD as GET (app/middleware/head.py)."""

from starlette.requests import HTTPConnection

IS_HEAD = "is_head"
"""The key in the request's state."""


def is_head(request: HTTPConnection) -> bool:
    """Whether only the header fields of a response are wanted."""
    return bool(request.scope.get("state", {}).get(IS_HEAD))
