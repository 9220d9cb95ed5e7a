"""Sends a launcher's request; apart, because it imports http and ssl."""

import urllib.error
import urllib.request
from typing import Any

from ._daemon import HttpRequest

__all__ = ["RefusedError", "send"]

_LARGEST_ANSWER = 4096  # bytes


class RefusedError(OSError):
    """The service answered, and not with success.

    Attributes:
        body: The beginning of what it said.
    """

    def __init__(self, message: str, body: str) -> None:
        super().__init__(message)
        self.body = body


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry token and secret to where the user did not send them."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def send(request: HttpRequest, timeout: float) -> str:
    """Send a request and return the beginning of the answer.

    Raises:
        OSError: The service could not be reached, or refused.
    """
    prepared = urllib.request.Request(  # noqa: S310 - http_config has checked the scheme
        request.url, request.body, dict(request.headers), method=request.method
    )
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if prepared.type == "http":
        # A proxy would read the secret; for https it only passes on what it cannot read.
        handlers.append(urllib.request.ProxyHandler({}))
    opener = urllib.request.build_opener(*handlers)
    try:
        with opener.open(prepared, timeout=timeout) as answer:
            return str(answer.read(_LARGEST_ANSWER), "utf-8", "replace")
    except urllib.error.HTTPError as error:
        with error:
            body = str(error.read(_LARGEST_ANSWER), "utf-8", "replace")
        raise RefusedError(f"status {error.code} {error.reason}", body) from None
