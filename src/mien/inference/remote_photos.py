"""Photos from the network, for those who ask for them by address."""

from http.client import HTTPException
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from mien.errors import MienError
from mien.inference.photos import MIB

SECONDS = 20.0
MOST_MIB = 50
SCHEMES = ("http", "https")


HANDLERS = (ProxyHandler, HTTPHandler, HTTPSHandler, HTTPRedirectHandler, HTTPDefaultErrorHandler, HTTPErrorProcessor,
            UnknownHandler)  # fmt: skip
"""What urllib may do here: without handlers for ftp and files, no redirect leads there."""


def download(address: str, seconds: float = SECONDS) -> bytes:
    """The bytes at an http(s) address, at most MOST_MIB MiB of them.

    Raises MienError for another kind of address, a server that does not answer within `seconds`, or a larger file.
    """
    if str(address).partition("://")[0].lower() not in SCHEMES:
        raise MienError(f"{address} is no http or https address. Pass files to predict instead.")
    try:
        request = Request(address, headers={"User-Agent": "mien", "Accept": "image/*"})  # noqa: S310 (checked above)
        with _opener().open(request, timeout=seconds) as response:
            data = bytes(response.read(MOST_MIB * MIB + 1))
    except (OSError, HTTPException, ValueError) as error:
        raise MienError(f"Cannot download {address} ({error}). Check the address and the network.") from error
    if len(data) > MOST_MIB * MIB:
        raise MienError(f"{address} is larger than {MOST_MIB} MiB. Pass the address of a smaller photo.")
    return data


def _opener() -> OpenerDirector:
    opener = OpenerDirector()
    for handler in HANDLERS:
        opener.add_handler(handler())
    return opener
