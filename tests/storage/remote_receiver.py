"""A receiver of remote write: decodes what comes, keeps it, and answers as a test tells it to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cramjam

from tests.storage.test_remote_encode import Decoded, decoded

Verdict = tuple[int, dict[str, str], str]
TAKEN: Verdict = (204, {}, "")


class Receiver:
    """`verdict` is asked for each request; what it answers below 300 is kept in `taken`."""

    def __init__(self) -> None:
        self.verdict: Callable[[Decoded], Verdict] = lambda request: TAKEN
        self.taken: list[Decoded] = []
        self.requests = 0
        self.headers: dict[str, str] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def samples(self, name: str) -> list[tuple[int, bytes]]:
        """All samples of one metric in the order in which they came."""
        return [
            sample
            for request in self.taken
            for labels, samples in request
            if labels["__name__"] == name
            for sample in samples
        ]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one segment

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = decoded(bytes(cramjam.snappy.decompress_raw(body)))
                receiver.requests += 1
                receiver.headers = dict(self.headers)
                status, headers, text = receiver.verdict(request)
                if status < 300:
                    receiver.taken.append(request)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                pass

        return Handler
