"""Real receivers for tests: an HTTP server and an SMTP server that can be down, slow or angry."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.ports import free_port


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Wait for something that another thread or process does; fails loudly when it does not come."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        pause.wait(0.005)


@dataclass
class Post:
    path: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def alert_id(self) -> str:
        return self.json["deskvigil"]["alertId"]

    @property
    def reason(self) -> str:
        return self.json["deskvigil"]["reason"]


class WebhookReceiver:
    """`answer(post)` decides: an int status, or (status, headers); it may block to be slow."""

    def __init__(self, port: int = 0, answer: Callable[[Post], Any] = lambda post: 200) -> None:
        self.posts: list[Post] = []
        self.answer = answer
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                post = Post(self.path, {key.lower(): value for key, value in self.headers.items()}, body)
                verdict = receiver.answer(post)
                status, headers = verdict if isinstance(verdict, tuple) else (verdict, {})
                if 200 <= status < 300:
                    receiver.posts.append(post)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *args: object) -> None:
                pass  # clients of slow receivers go away

        self._server = Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def __enter__(self) -> WebhookReceiver:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()


class MailServer:
    """An SMTP server that keeps what it takes; `verdict(envelope)` is its answer to DATA."""

    def __init__(
        self, port: int = 0, verdict: Callable[[Envelope], str] = lambda envelope: "250 OK", **keys: Any
    ) -> None:
        self.mails: list[EmailMessage] = []
        self.envelopes: list[Envelope] = []
        mails, envelopes = self.mails, self.envelopes

        class Handler:
            async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
                answer = verdict(envelope)
                if answer.startswith("250"):
                    envelopes.append(envelope)
                    mails.append(message_from_bytes(envelope.content, policy=policy.default))
                return answer

        self._controller = Controller(Handler(), hostname="127.0.0.1", port=port or free_port(), **keys)
        self._controller.start()
        self.port = self._controller.port

    def close(self) -> None:
        self._controller.stop()

    def __enter__(self) -> MailServer:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()
