"""Finds a free TCP port."""

import socket


def probe_port(host: str, port: int = 0) -> int:
    """Returns ``port``, or a free one for 0, after binding it for a moment. Raises OSError if it cannot be bound."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a closed one may linger
        probe.bind((host, port))
        return int(probe.getsockname()[1])
