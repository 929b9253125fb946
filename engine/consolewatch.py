"""ConsoleWatch: is somebody looking? The console writes a sign of life; its changes are what counts."""

from __future__ import annotations

from pathlib import Path


class ConsoleWatch:
    """Looks at the console's heartbeat file.

    Only that the eight bytes change is read as a sign of life, and its age is measured by the
    monotonic clock: wall clocks step. An engine that never saw a console is not without one.
    """

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._path = path
        self._timeout_ns = round(timeout_s * 1e9)
        self._content: bytes | None = None
        self._moved_ns: int | None = None
        self.timeout_s = timeout_s

    def look(self, now_ns: int) -> None:
        """Read the file; `now_ns` is monotonic. A missing file is no sign of life."""
        try:
            content = self._path.read_bytes()
        except OSError:
            return
        if self._content is not None and content != self._content:
            self._moved_ns = now_ns
        # The first content may be what a dead console left behind: only a change is a sign.
        self._content = content

    def is_missing(self, now_ns: int) -> bool:
        """Whether a console was seen and has been silent for longer than the timeout."""
        return self._moved_ns is not None and now_ns - self._moved_ns > self._timeout_ns

    def gauge(self, now_ns: int) -> float:
        """1 while it lives, 0 when it stopped, -1 before the first sign."""
        if self._moved_ns is None:
            return -1.0
        return 0.0 if self.is_missing(now_ns) else 1.0
