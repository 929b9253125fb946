"""Network sections of the host: interfaces, and the protocol counters that matter to a desk."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

from collectors.section import NAN, ProcFile
from metrics.catalogue import series
from metrics.series import Series

# Columns of /proc/net/dev after the name: receive bytes, packets, errors, drops; then transmit.
RECEIVE, TRANSMIT = (0, 1, 2, 3), (8, 9, 10, 11)
METRICS = (
    "deskvigil_host_network_bytes_total",
    "deskvigil_host_network_packets_total",
    "deskvigil_host_network_errors_total",
    "deskvigil_host_network_drops_total",
)
UDP_REASONS = {
    "damaged": b"InErrors",
    "receive_buffer": b"RcvbufErrors",
    "send_buffer": b"SndbufErrors",
    "no_port": b"NoPorts",
}


class Interfaces:
    """/proc/net/dev: interfaces whose name no pattern of `ignored` matches."""

    def __init__(self, proc: Path, sys: Path, ignored: tuple[str, ...], max_interfaces: int) -> None:
        self._file = ProcFile(proc / "net" / "dev")
        self._sys_net = sys / "class" / "net"
        self._ignored = re.compile("|".join(fnmatch.translate(pattern) for pattern in ignored) or r"(?!)")
        self._max = max_interfaces
        self._names: tuple[str, ...] | None = None
        self._carriers: list[ProcFile] = []
        self.left_out = 0
        self.series: tuple[Series, ...] = ()

    def read(self, elapsed_s: float) -> list[float]:
        found = self._interfaces()
        self.left_out = max(0, len(found) - self._max)
        shown = dict(list(found.items())[: self._max])
        if tuple(shown) != self._names:
            self._rename(tuple(shown))
        values: list[float] = []
        for fields, carrier in zip(shown.values(), self._carriers, strict=True):
            for receive, transmit in zip(RECEIVE, TRANSMIT, strict=True):
                values += (float(fields[receive]), float(fields[transmit]))
            values.append(_carrier(carrier))
        return values

    def close(self) -> None:
        self._file.close()
        for carrier in self._carriers:
            carrier.close()

    def _interfaces(self) -> dict[str, list[bytes]]:
        found = {}
        for line in self._file.read().splitlines()[2:]:
            name, _, rest = line.partition(b":")
            text = name.strip().decode()
            if not self._ignored.match(text):
                found[text] = rest.split()
        return found

    def _rename(self, names: tuple[str, ...]) -> None:
        for carrier in self._carriers:
            carrier.close()
        self._names = names
        self._carriers = [ProcFile(self._sys_net / name / "carrier") for name in names]
        self.series = tuple(made for name in names for made in _interface_series(name))


def _interface_series(name: str) -> list[Series]:
    made = [
        series(metric, interface=name, direction=direction)
        for metric in METRICS
        for direction in ("receive", "transmit")
    ]
    return [*made, series("deskvigil_host_network_up", interface=name)]


def _carrier(file: ProcFile) -> float:
    """1 with a carrier, 0 without; an interface that is switched off answers with an error."""
    try:
        return float(file.read())
    except FileNotFoundError:
        return NAN
    except (OSError, ValueError):
        return 0.0


class Protocols:
    """/proc/net/snmp: TCP segments sent again, connections, and UDP datagrams lost on this host."""

    def __init__(self, proc: Path) -> None:
        self._file = ProcFile(proc / "net" / "snmp")
        self.series = (
            series("deskvigil_host_tcp_retransmits_total"),
            series("deskvigil_host_tcp_connections"),
            *(series("deskvigil_host_udp_errors_total", reason=reason) for reason in UDP_REASONS),
        )

    def read(self, elapsed_s: float) -> list[float]:
        lines = self._file.read().splitlines()
        tcp, udp = _named(lines, b"Tcp:"), _named(lines, b"Udp:")
        return [
            tcp.get(b"RetransSegs", NAN),
            tcp.get(b"CurrEstab", NAN),
            *(udp.get(key, NAN) for key in UDP_REASONS.values()),
        ]

    def close(self) -> None:
        self._file.close()


def _named(lines: list[bytes], protocol: bytes) -> dict[bytes, float]:
    """The two lines of one protocol, names and numbers, as one mapping."""
    names, numbers = [line.split() for line in lines if line.startswith(protocol)][:2]
    return {name: float(number) for name, number in zip(names[1:], numbers[1:], strict=True)}
