"""Receivers of webhooks: parses a receiver's address once, and decides which hosts the service refuses to call.

The service connects to exactly the parsed address: nothing parses it a second time by other rules.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Self

MAX_URL_LENGTH = 2048
MAX_HOST_LENGTH = 253

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<target>(?:[/?][a-z0-9._~:/?@!$&'()*+,;=%\[\]-]*)?)",
    re.IGNORECASE | re.ASCII,
)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

# IANA's special-purpose registries, written out: Python's own ``is_global`` changed between releases.
_REFUSED: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), kind)
    for network, kind in (
        ("0.0.0.0/8", "an address of no host"),
        ("10.0.0.0/8", "a private address"),
        ("100.64.0.0/10", "a carrier's private address"),
        ("127.0.0.0/8", "a loopback address"),
        ("168.63.129.16/32", "a cloud's metadata address"),
        ("169.254.0.0/16", "a link-local address"),
        ("172.16.0.0/12", "a private address"),
        ("192.0.0.0/24", "a reserved address"),
        ("192.0.2.0/24", "a documentation address"),
        ("192.88.99.0/24", "a tunnel's address"),
        ("192.168.0.0/16", "a private address"),
        ("198.18.0.0/15", "a benchmark's address"),
        ("198.51.100.0/24", "a documentation address"),
        ("203.0.113.0/24", "a documentation address"),
        ("224.0.0.0/4", "a multicast address"),
        ("240.0.0.0/4", "a reserved address"),
        ("::/128", "an address of no host"),
        ("::1/128", "a loopback address"),
        ("::/96", "an embedded IPv4 address"),
        ("::ffff:0:0/96", "an embedded IPv4 address"),
        ("::ffff:0:0:0/96", "an embedded IPv4 address"),
        ("64:ff9b:1::/48", "a private address"),
        ("2001::/32", "a tunnel's address"),
        ("2001::/23", "a reserved address"),
        ("2001:db8::/32", "a documentation address"),
        ("2002::/16", "a tunnel's address"),
        ("3fff::/20", "a documentation address"),
        ("fc00::/7", "a private address"),
        ("fe80::/10", "a link-local address"),
        ("fec0::/10", "a private address"),
        ("ff00::/8", "a multicast address"),
    )
)
_GLOBAL_IPV6 = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_ISATAP = 0x00005EFE
_LOOPBACK = (IPv4Address("127.0.0.1"), IPv6Address("::1"))


@dataclass(frozen=True)
class Receiver:
    """``host`` in lower case and without brackets; ``target`` is path and query."""

    scheme: str
    host: str
    port: int
    target: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """Raises ValueError, whose message does not repeat the address."""
        found = _URL.fullmatch(url) if len(url) <= MAX_URL_LENGTH else None
        if found is None:
            raise ValueError(
                f"must be an http or https address of at most {MAX_URL_LENGTH} characters, in ASCII, without user, "
                "password or fragment"
            )
        scheme, target = found["scheme"].lower(), found["target"]
        port = int(found["port"] or (443 if scheme == "https" else 80))
        if not 0 < port < 65536:
            raise ValueError("the port must be from 1 to 65535")
        host = _check_ipv6(found["ipv6"]) if found["ipv6"] else _check_name(found["name"].lower())
        return cls(scheme, host, port, target if target.startswith("/") else f"/{target}")

    @property
    def address(self) -> Address | None:
        """For a host that is written as an address."""
        return _read_address(self.host)

    @property
    def authority(self) -> str:
        """As the header Host has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"

    @property
    def is_local_name(self) -> bool:
        """RFC 6761: such names are this machine's, whatever a resolver says."""
        return self.host == "localhost" or self.host.endswith(".localhost")


def _check_name(host: str) -> str:
    host = host.removesuffix(".")
    labels = host.split(".")
    if len(host) > MAX_HOST_LENGTH or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError("the host is not a name or address")
    # Resolvers read 127.1, 0x7f.0.0.1 and 2130706433 as addresses.
    if _NUMBER.fullmatch(labels[-1]) and not isinstance(_read_address(host), IPv4Address):
        raise ValueError("the host must be a name, or an IPv4 address as four decimal numbers")
    return host


def _check_ipv6(host: str) -> str:
    try:
        return str(IPv6Address(host.lower()))
    except ValueError:
        raise ValueError("the host is not an IPv6 address") from None


def _read_address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def describe_refused(address: Address) -> str | None:
    """The kind of a non-public address; None for one on the public internet."""
    if isinstance(address, IPv6Address):
        if address in _NAT64:
            return describe_refused(IPv4Address(int(address) & 0xFFFF_FFFF))
        # Interface ids of ISATAP (RFC 5214), with and without the universal bit: the rest is an IPv4 address.
        if (int(address) >> 32) & 0xFDFF_FFFF == _ISATAP:
            return "a tunnel's address"
    for network, kind in _REFUSED:
        if address.version == network.version and address in network:
            return kind
    if isinstance(address, IPv6Address) and address not in _GLOBAL_IPV6:
        return "a reserved address"
    return None


@dataclass(frozen=True)
class Admitted:
    """A host name, or a network of addresses; on one port, or on all."""

    place: str | Network
    port: int | None

    def covers(self, receiver: Receiver, address: Address | None) -> bool:
        if self.port not in (None, receiver.port):
            return False
        if isinstance(self.place, str):
            return self.place == receiver.host
        return address is not None and address.version == self.place.version and address in self.place


@dataclass(frozen=True)
class AllowList:
    """The private receivers that the operator admits."""

    entries: tuple[Admitted, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """``hooks.internal``, ``10.1.2.3:8080``, ``[fd00::1]:80`` or ``10.0.0.0/8``, separated by commas or spaces.

        Raises ValueError with the invalid entry.
        """
        return cls(tuple(_parse_entry(entry) for entry in re.split(r"[,\s]+", text.strip().lower()) if entry))

    def find_refusal(self, receiver: Receiver, addresses: Sequence[Address]) -> str | None:
        """Why the addresses must not be called: one bad one is enough. None if all may be."""
        for address in addresses:
            kind = describe_refused(address)
            if kind is not None and not self.admits(receiver, address):
                return f"{address} is {kind}"
        return None

    def admits(self, receiver: Receiver, address: Address | None) -> bool:
        return any(entry.covers(receiver, address) for entry in self.entries)

    def find_refusal_unresolved(self, receiver: Receiver) -> str | None:
        """The verdict on a receiver before its name is resolved."""
        if receiver.address is not None:
            return self.find_refusal(receiver, [receiver.address])
        admitted = any(self.admits(receiver, address) for address in _LOOPBACK)
        return f"{receiver.host} is a name of this machine" if receiver.is_local_name and not admitted else None


def _parse_entry(entry: str) -> Admitted:
    try:
        network: Network | None = ip_network(entry)
    except ValueError:
        network = None
    if network is not None:
        return Admitted(network, None)
    try:
        receiver = Receiver.parse(f"http://{entry}")
    except ValueError:
        raise ValueError(f"{entry} is not a host, host:port, address or network") from None
    if receiver.target != "/" or entry.endswith("/"):
        raise ValueError(f"{entry} is not a host, host:port, address or network")
    has_port = re.search(r":\d+$", entry) is not None
    place: str | Network = receiver.host if receiver.address is None else ip_network(receiver.address)
    return Admitted(place, receiver.port if has_port else None)
