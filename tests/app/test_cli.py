"""The command line: what each command prints, and what it says where something is wrong."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.app.program import ROOT


def _app(*arguments: str, timeout: float = 90) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "app.py", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=timeout
    )


def test_help_lists_every_command() -> None:
    text = _app("--help").stdout
    for command in (
        "run",
        "serve",
        "halt",
        "resume",
        "check-config",
        "check-rules",
        "check-policy",
        "slo",
        "replay",
        "backup",
        "restore",
        "fsck",
        "export",
        "sweep",
        "bench",
        "warm",
        "version",
    ):
        assert command in text


def test_check_config_prints_the_effective_settings() -> None:
    done = _app("check-config", "--port", "1234")
    assert done.returncode == 0, done.stderr
    assert "port: 1234" in done.stdout


def test_a_wrong_setting_is_one_message_and_exit_status_two(tmp_path: Path) -> None:
    path = tmp_path / "deskvigil.yml"
    path.write_text("web: {prot: 1}\n")
    done = _app("check-config", "--config", str(path))
    assert done.returncode == 2
    assert "web.prot: unknown key" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_default_rules_have_no_problems() -> None:
    done = _app("check-rules", "alerts/rules/default.rules.yml")
    assert done.returncode == 0, done.stdout


def test_a_broken_rule_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.yml"
    path.write_text("groups:\n- name: g\n  rules:\n  - alert: A\n    expr: 'sum('\n")
    done = _app("check-rules", str(path))
    assert done.returncode == 1
    assert "bad.yml" in done.stdout


def test_a_policy_is_checked_and_says_whom_an_alert_reaches(tmp_path: Path) -> None:
    config, policy = tmp_path / "deskvigil.yml", tmp_path / "policy.yml"
    config.write_text(f"alerts: {{policy: {policy}, webhook: {{url: 'https://hooks.example.com'}}}}\n")
    policy.write_text("route: {receiver: all}\nreceivers: [{name: all, channels: [webhook]}]\n")
    done = _app("check-policy", str(policy), "--config", str(config), "--labels", "severity=critical")
    assert (done.returncode, done.stdout) == (0, "all: webhook (line 1)\n"), done.stderr
    policy.write_text("route: {receiver: all}\nreceivers: [{name: all, channels: [pigeon]}]\n")
    for command in (["check-policy", str(policy)], ["check-config"]):
        done = _app(*command, "--config", str(config))
        assert done.returncode == 2
        assert "policy.yml: line 2: channels: there is no 'pigeon'; there are: webhook" in done.stderr


def test_a_taken_port_is_told_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        done = _app("run", "--port", port, "--data-dir", str(tmp_path / "data"))
    assert done.returncode == 1
    assert f"port {port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_open_address_is_refused(tmp_path: Path) -> None:
    done = _app("run", "--host", "0.0.0.0", "--data-dir", str(tmp_path / "data"))
    assert done.returncode == 1
    assert "no users yet" in done.stderr


def test_a_tape_that_is_none_is_told(tmp_path: Path) -> None:
    tape = tmp_path / "tape.zip"
    tape.write_bytes(b"not a zip")
    done = _app("run", "--port", "0", "--tape", str(tape), "--data-dir", str(tmp_path / "data"))
    assert done.returncode == 1
    assert "tape.zip" in done.stderr
    assert "Traceback" not in done.stderr


def test_halt_without_an_engine_says_that_nobody_answers(tmp_path: Path) -> None:
    done = _app("halt", "--who", "me", "--reason", "test", "--data-dir", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("halt: ")


def test_replay_prints_one_json_object_as_its_last_line(marketdata: Path) -> None:
    tape = marketdata / "lobster" / "LOBSTER_SampleFile_AMZN_2012-06-21_1.zip"
    done = _app("replay", "--format", "lobster", str(tape), "--verify", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["mismatches"] == 0
    assert result["book_rows_checked"] == 57_515


@pytest.mark.parametrize("name", ["none.zip", "."])
def test_replay_of_no_file_is_told(tmp_path: Path, name: str) -> None:
    done = _app("replay", "--format", "lobster", str(tmp_path / name), "--json")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
