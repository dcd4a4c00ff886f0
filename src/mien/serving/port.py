"""Whether a port is free to listen on, said in one sentence: `python -m mien.serving.port HOST PORT`."""

import errno
import socket
import sys

from mien.errors import MienError


def check(host: str, port: int) -> None:
    """Listen for a moment. Raises MienError where that cannot be done."""
    if not 0 < port < 1 << 16:
        raise MienError(f"The port {port} is none: expected a number from 1 to {(1 << 16) - 1}, such as PORT=3001.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port just left is free
        try:
            listener.bind((host, port))
            listener.listen()
        except OSError as error:
            raise MienError(_why(host, port, error)) from None


def _why(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"The port {port} of {host} is in use. End what listens there, or choose another: PORT={port + 1}."
    if error.errno == errno.EACCES:
        return f"The port {port} is reserved to the administrator. Choose one above 1023, such as PORT=3000."
    return f"{host}:{port} cannot be listened on ({error.strerror or error}). Give an address of this machine as HOST."


def main(host: str, port: str) -> None:
    """Check a port that was typed by someone."""
    if not port.isdecimal():
        raise MienError(f"The port {port!r} is none: expected a number, such as PORT=3001.")
    check(host, int(port))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except MienError as problem:
        raise SystemExit(f"error: {problem}") from None
