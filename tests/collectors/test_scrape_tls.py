"""Scraping over TLS, with real certificates."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.collectors.scrape_server import PageServer
from tests.collectors.test_scrape import Desk, job


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem, and server and client certificates that it signed, each with its .key; other.pem is another CA."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: apt-get install openssl")
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)

    new_key = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    for name in ("ca", "other"):
        openssl(*new_key, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}")
    for name, days in (("server", "2"), ("client", "2"), ("old", "0")):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key",
                "-out", f"{name}.csr", "-subj", f"/CN={name}")  # fmt: skip
        (folder / "extra").write_text("subjectAltName=DNS:desk.example,IP:127.0.0.1\n")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-days", days, "-extfile", "extra", "-out", f"{name}.pem")  # fmt: skip
    return folder


@pytest.fixture
def serve(certificates: Path) -> Iterator[Any]:
    opened: list[PageServer] = []

    def make(*, clients: bool = False, name: str = "server") -> PageServer:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(certificates / "ca.pem")
            context.maximum_version = ssl.TLSVersion.TLSv1_2  # there the handshake itself fails
        server = PageServer(context)
        server.page("a 1\n")
        opened.append(server)
        return server

    yield make
    for server in opened:
        server.close()


def scraped(address: str, tls: dict[str, Any], turns: int = 2) -> tuple[float, str]:
    one = Desk(job(address, scheme="https", tls_config=tls, scrape_interval="15s"))
    try:
        for _ in range(turns):
            up = one.scrape()["up"]
        return up, one.state.last_error
    finally:
        one.close()


def test_a_certificate_of_the_named_authority_is_accepted_and_the_connection_kept(
    serve: Any, certificates: Path
) -> None:
    server = serve()
    assert scraped(server.address, {"ca_file": str(certificates / "ca.pem")}) == (1, "")
    assert server.connections == 1


@pytest.mark.parametrize(
    ("tls", "words"),
    [
        ({}, "certificate is not accepted"),
        ({"ca_file": "other.pem"}, "certificate is not accepted"),
        ({"ca_file": "ca.pem", "server_name": "else.example"}, "else.example"),
        ({"ca_file": "server.key"}, "ca_file"),
    ],
)
def test_a_certificate_that_is_not_accepted_is_named(
    serve: Any, certificates: Path, tls: dict[str, str], words: str
) -> None:
    named = {key: str(certificates / value) if key.endswith("_file") else value for key, value in tls.items()}
    up, error = scraped(serve().address, named, turns=1)
    assert up == 0
    assert error.startswith("TLS: ")
    assert words in error


def test_verification_can_be_left_out_and_the_name_be_another(serve: Any, certificates: Path) -> None:
    server = serve()
    assert scraped(server.address, {"insecure_skip_verify": True})[0] == 1
    assert scraped(server.address, {"ca_file": str(certificates / "ca.pem"), "server_name": "desk.example"})[0] == 1


def test_a_certificate_that_has_expired_is_named(serve: Any, certificates: Path) -> None:
    up, error = scraped(serve(name="old").address, {"ca_file": str(certificates / "ca.pem")}, turns=1)
    assert up == 0
    assert "expired" in error


def test_a_server_that_wants_a_client_certificate_gets_it(serve: Any, certificates: Path) -> None:
    server = serve(clients=True)
    ca = {"ca_file": str(certificates / "ca.pem")}
    up, error = scraped(server.address, ca, turns=1)
    assert up == 0
    assert error
    ours = {"cert_file": str(certificates / "client.pem"), "key_file": str(certificates / "client.key")}
    assert scraped(server.address, {**ca, **ours}) == (1, "")


def test_a_server_without_tls_is_named(certificates: Path) -> None:
    server = PageServer()
    try:
        up, error = scraped(server.address, {"ca_file": str(certificates / "ca.pem")}, turns=1)
        assert up == 0
        assert "does not speak TLS" in error
    finally:
        server.close()
