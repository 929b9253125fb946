"""Egress: which addresses a message may be sent to, decided when the connection is made.

A name is resolved once, every address it stands for is judged, and the connection goes to the very
address that was judged: a name that changes its mind afterwards reaches nothing new.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterable, Sequence
from ssl import SSLContext
from typing import Any

import httpcore2

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# Networks whose last 32 bits are an IPv4 address: NAT64's well-known and local prefixes, and IPv4-compatible ones.
_CARRIERS = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "::/96")))
_ANY, _LOOPBACK = ipaddress.IPv6Address("::"), ipaddress.IPv6Address("::1")


class EgressDenied(httpcore2.ConnectError):  # type: ignore[misc, unused-ignore]
    """The address is private, loopback, link-local or reserved, and not on the allow list."""


class EgressPolicy:
    """Public addresses are allowed; others only by an entry: a host name, an address, or a network (CIDR)."""

    def __init__(self, allow: Sequence[str]) -> None:
        self._hosts = set()
        self._networks: list[Network] = []
        for entry in allow:
            try:
                self._networks.append(ipaddress.ip_network(entry.strip(), strict=False))
            except ValueError:
                if not entry.strip() or "/" in entry:
                    raise ValueError(f"allow: {entry!r} is no host, address or network") from None
                self._hosts.add(entry.strip().rstrip(".").lower())

    def permits(self, host: str, address: Address) -> bool:
        """Whether a connection to `host`, which resolved to `address`, may be made."""
        plain = _unwrapped(address)
        if address in (_ANY, _LOOPBACK):  # IPv6's own, which look like carriers of 0.0.0.0 and 0.0.0.1
            plain = address
        if host.rstrip(".").lower() in self._hosts:
            return True
        if any(plain.version == network.version and plain in network for network in self._networks):
            return True
        return plain.is_global and not plain.is_multicast and not plain.is_reserved


def _unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 one merely carries: mapped, compatible, 6to4, NAT64 and Teredo (its client)."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    carried = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
    if carried is None and any(address in network for network in _CARRIERS):
        carried = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return carried or address


class GuardedBackend(httpcore2.NetworkBackend):
    """Connects only where the policy permits, and lets a whole exchange last no longer than its deadline."""

    def __init__(self, policy: EgressPolicy) -> None:
        self._policy = policy
        self._inner = httpcore2.SyncBackend()
        self._deadline = float("inf")

    def begin(self, limit_s: float) -> None:
        """Start the clock of one exchange; used by one thread at a time."""
        self._deadline = time.monotonic() + limit_s

    def left_s(self, timeout_s: float | None) -> float:
        """What is left of the exchange, at most `timeout_s`; httpcore2's timeout where nothing is."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise httpcore2.ReadTimeout("the exchange took too long")
        return left if timeout_s is None else min(left, timeout_s)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        failure: Exception | None = None
        for address in self._judged(host, port):
            try:
                stream = self._inner.connect_tcp(
                    str(address), port, self.left_s(timeout), local_address, socket_options
                )
                return _DeadlineStream(stream, self)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore2.ConnectError(f"{host} has no address")

    def _judged(self, host: str, port: int) -> list[Address]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError(f"{host} cannot be resolved: {error}") from None
        addresses = list(dict.fromkeys(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found))
        denied = [address for address in addresses if not self._policy.permits(host, address)]
        if denied:
            raise EgressDenied(f"{host} is {denied[0]}, which is not a public address and not on the allow list")
        return addresses


class _DeadlineStream(httpcore2.NetworkStream):
    def __init__(self, inner: httpcore2.NetworkStream, backend: GuardedBackend) -> None:
        self._inner = inner
        self._backend = backend

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._backend.left_s(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._backend.left_s(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        secured = self._inner.start_tls(ssl_context, server_hostname, self._backend.left_s(timeout))
        return _DeadlineStream(secured, self._backend)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
