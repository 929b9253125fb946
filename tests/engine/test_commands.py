"""Commands over a real Unix socket."""

from __future__ import annotations

import json
import select
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.commands import (
    MAX_CLIENTS,
    MAX_LINE,
    Command,
    CommandClient,
    CommandError,
    CommandName,
    CommandRefusedError,
    CommandServer,
    parse_command,
)

HALT = {"command": "halt", "scope": "all", "who": "anna", "reason": "drill"}


@contextmanager
def serving(path: Path, handle=None) -> Iterator[CommandServer]:
    """A server whose loop runs in a thread, as the engine's does."""
    server = CommandServer(path, handle or (lambda command: {"echo": command.name.value, "scope": command.scope}))
    server.start()
    wake, stop = socket.socketpair()

    def loop() -> None:
        while True:
            ready, _, _ = select.select([wake, *server.files], [], [], 10.0)
            if wake in ready:
                return
            server.poll()

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield server
    finally:
        stop.send(b"x")
        thread.join(60)
        server.stop()
        wake.close()
        stop.close()


def test_a_command_is_carried_out_and_acknowledged(tmp_path: Path) -> None:
    with serving(tmp_path / "engine.sock"):
        assert CommandClient(tmp_path / "engine.sock").send(HALT) == {"ok": True, "echo": "halt", "scope": "all"}


def test_the_socket_is_for_its_owner_only(tmp_path: Path) -> None:
    with serving(tmp_path / "engine.sock"):
        assert stat.S_IMODE((tmp_path / "engine.sock").stat().st_mode) == 0o600


def test_a_refused_command_says_why(tmp_path: Path) -> None:
    with serving(tmp_path / "engine.sock") as server:
        answer = CommandClient(tmp_path / "engine.sock").send({"command": "sell everything"})
        assert answer["ok"] is False
        assert "halt, resume, status, ping" in answer["error"]
        assert server.refused == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"not json", "JSON"),
        (b"[1]", "object"),
        (b'{"command": "halt", "scope": "all", "reason": "x"}', "who is missing"),
        (b'{"command": "halt", "who": "a", "reason": "x"}', "scope is missing"),
        (b'{"command": "halt", "scope": "all", "who": "a", "reason": " "}', "reason is missing"),
        (b'{"command": "resume", "who": "a"}', "reason is missing"),
        (b'{"command": "ping", "sudo": true}', "unknown key"),
        (b'{"command": "halt", "scope": 3, "who": "a", "reason": "x"}', "scope is text"),
        (b'{"command": ["halt"]}', "not one of"),
        (b'{"command": "limit", "name": "x", "who": "a", "reason": "x"}', "value is a number"),
        (b'{"command": "limit", "name": "x", "value": true, "who": "a", "reason": "x"}', "value is a number"),
        (b'{"command": "limit", "name": "x", "value": NaN, "who": "a", "reason": "x"}', "value is a number"),
        (b'{"command": "limit", "value": 1, "who": "a", "reason": "x"}', "name is missing"),
        (b'{"command": "limit", "name": "x", "value": 1, "reason": "x"}', "who is missing"),
        (b'{"command": "halt", "scope": "all", "value": 1, "who": "a", "reason": "x"}', "unknown key"),
        (b'{"command": "ping", "who": "' + b"x" * 300 + b'"}', "who is text"),
    ],
)
def test_a_wrong_command_is_refused_by_name(line: bytes, words: str) -> None:
    with pytest.raises(CommandRefusedError, match=words):
        parse_command(line)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_line_of_bytes_does_anything_but_parse_or_be_refused(line: bytes) -> None:
    with suppress(CommandRefusedError):
        assert isinstance(parse_command(line), Command)


def test_resume_needs_no_scope() -> None:
    line = json.dumps({"command": "resume", "who": "anna", "reason": "done"}).encode()
    assert parse_command(line) == Command(CommandName.RESUME, "all", "anna", "done")


def test_without_an_engine_the_client_says_so(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no engine listens"):
        CommandClient(tmp_path / "engine.sock").send(HALT)


def test_a_socket_left_by_a_killed_engine_is_no_engine_and_is_replaced(tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    left.bind(str(tmp_path / "engine.sock"))
    left.close()
    with pytest.raises(CommandError, match="no engine listens"):
        CommandClient(tmp_path / "engine.sock").send(HALT)
    with serving(tmp_path / "engine.sock"):
        assert CommandClient(tmp_path / "engine.sock").send({"command": "ping"})["ok"]


def test_a_silent_engine_is_an_error_in_bounded_time(tmp_path: Path) -> None:
    server = CommandServer(tmp_path / "engine.sock", lambda command: {})
    server.start()
    try:
        with pytest.raises(CommandError, match="may still take effect"):
            CommandClient(tmp_path / "engine.sock", timeout_s=0.1).send(HALT)
    finally:
        server.stop()
    assert not (tmp_path / "engine.sock").exists()


def test_paths_longer_than_a_socket_address_work(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 120) / "engine.sock"
    with serving(path):
        assert CommandClient(path).send({"command": "ping"})["ok"]


def test_several_commands_may_come_in_one_go_and_in_pieces(tmp_path: Path) -> None:
    with serving(tmp_path / "engine.sock"), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(tmp_path / "engine.sock"))
        text = b'{"command": "ping"}\n{"command": "status"}\n'
        connection.sendall(text[:7])
        connection.sendall(text[7:])
        with connection.makefile() as answers_file:
            answers = answers_file.readline(), answers_file.readline()
        assert [json.loads(answer)["ok"] for answer in answers] == [True, True]


def test_an_endless_line_is_disconnected(tmp_path: Path) -> None:
    with serving(tmp_path / "engine.sock"), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(tmp_path / "engine.sock"))
        for _ in range(100):
            try:
                connection.sendall(b"x" * MAX_LINE)
            except (BrokenPipeError, ConnectionResetError):
                break
        else:
            pytest.fail("the server read on and on")
        assert CommandClient(tmp_path / "engine.sock").send({"command": "ping"})["ok"]


def test_too_many_clients_do_not_keep_others_out_for_ever(tmp_path: Path) -> None:
    with serving(tmp_path / "engine.sock"):
        held = [socket.socket(socket.AF_UNIX) for _ in range(MAX_CLIENTS)]
        for connection in held:
            connection.settimeout(10)
            connection.connect(str(tmp_path / "engine.sock"))
            connection.sendall(b'{"command": "ping"}\n')
            assert connection.recv(100)
        with pytest.raises(CommandError):
            CommandClient(tmp_path / "engine.sock").send({"command": "ping"})
        for connection in held:
            connection.close()
        for _ in range(100):
            try:
                assert CommandClient(tmp_path / "engine.sock").send({"command": "ping"})["ok"]
                break
            except CommandError:
                continue
        else:
            pytest.fail("the server never took a new client")
