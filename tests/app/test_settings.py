"""Settings: file, environment, secrets in files, and messages that name what is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from metrics.errors import ConfigError
from settings import Settings, describe, load_settings


def _file(folder: Path, text: str) -> Path:
    path = folder / "deskvigil.yml"
    path.write_text(text)
    return path


def _message(path: Path | None, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(path, environ or {})
    return str(caught.value)


def test_without_file_and_environment_the_defaults_ship() -> None:
    settings = load_settings(None, {})
    assert settings.web.port == 8050
    assert settings.data_dir == Path("var")


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(tmp_path: Path) -> None:
    path = _file(tmp_path, "web: {port: 1111}\n")
    assert load_settings(path, {}).web.port == 1111
    environ = {"DESKVIGIL_WEB__PORT": "2222"}
    assert load_settings(path, environ).web.port == 2222
    assert load_settings(path, environ, {"web.port": 3333}).web.port == 3333
    assert load_settings(path, environ, {"web.port": None}).web.port == 2222


def test_an_unknown_key_is_named_with_what_is_allowed_and_a_guess(tmp_path: Path) -> None:
    message = _message(_file(tmp_path, "web: {prot: 80}\n"))
    assert "web.prot: unknown key" in message
    assert "did you mean web.port?" in message
    assert "allowed_hosts" in message


def test_an_unknown_environment_key_is_an_error_too() -> None:
    assert "DESKVIGIL_WEBB__PORT" in _message(None, {"DESKVIGIL_WEBB__PORT": "1"})


def test_a_wrong_value_is_named_with_key_value_and_bound(tmp_path: Path) -> None:
    message = _message(_file(tmp_path, "web: {port: 99999}\n"))
    assert "web.port: 99999 is not allowed" in message
    assert "65535" in message
    assert str(tmp_path) in message


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    message = _message(_file(tmp_path, "web: {port: x, theme: pink}\n"))
    assert "web.port" in message
    assert "web.theme" in message
    assert "'dark'" in message


def test_a_section_that_is_not_a_section_says_so(tmp_path: Path) -> None:
    assert "web: 5 is not allowed: a section with keys is expected" in _message(_file(tmp_path, "web: 5\n"))


def test_an_empty_section_and_an_empty_file_mean_the_defaults(tmp_path: Path) -> None:
    assert load_settings(_file(tmp_path, "web:\n"), {}).web.port == 8050
    assert load_settings(_file(tmp_path, ""), {}).web.port == 8050


def test_a_file_that_is_not_yaml_or_not_there_is_named(tmp_path: Path) -> None:
    assert "is not YAML" in _message(_file(tmp_path, "a: [1\n"))
    assert "none.yml" in _message(tmp_path / "none.yml")
    assert "must hold keys and values" in _message(_file(tmp_path, "- 1\n"))


def test_lists_in_the_environment_are_yaml_and_text_stays_text() -> None:
    settings = load_settings(
        None, {"DESKVIGIL_WEB__ALLOWED_HOSTS": "[a.example, b.example]", "DESKVIGIL_WEB__EXTERNAL_URL": "123"}
    )
    assert settings.web.allowed_hosts == ("a.example", "b.example")
    assert settings.web.external_url == "123"


def test_a_setting_can_be_read_from_a_file_without_its_last_newline(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("https://desk.example\n")
    assert (
        load_settings(None, {"DESKVIGIL_WEB__EXTERNAL_URL_FILE": str(secret)}).web.external_url
        == "https://desk.example"
    )
    missing = _message(None, {"DESKVIGIL_WEB__EXTERNAL_URL_FILE": str(tmp_path / "none")})
    assert "DESKVIGIL_WEB__EXTERNAL_URL_FILE" in missing


def test_the_described_settings_read_back_as_the_same(tmp_path: Path) -> None:
    first = load_settings(None, {"DESKVIGIL_WEB__PORT": "1234"})
    assert load_settings(_file(tmp_path, describe(first)), {}) == first


def test_what_tests_and_benchmarks_read_from_the_environment_is_no_setting() -> None:
    root = Path(__file__).resolve().parents[2]
    files = [*root.glob("tests/**/*.py"), *root.glob("validation/**/*.py")]
    read = r'(?:environ\.get\(|environ\[|^[A-Z_]+ = |_shared\()"(DESKVIGIL_[A-Z_]+)"'
    names = {name for file in files for name in re.findall(read, file.read_text(), re.MULTILINE)}
    names = {name for name in names if "__" not in name}  # those are settings
    assert len(names) > 5
    assert load_settings(None, dict.fromkeys(names, "anything")) == Settings()


def test_a_var_limit_that_no_figure_could_be_young_enough_for_is_refused(tmp_path: Path) -> None:
    """Otherwise every order that adds risk is refused for ever, and nothing says why."""
    path = tmp_path / "settings.yml"
    path.write_text("risk: {period_s: 5}\nengine: {gates: {max_var_usd: 1000}}\n")
    with pytest.raises(ConfigError, match="max_var_age_s"):
        load_settings(path, {})
    path.write_text("risk: {period_s: 5}\nengine: {gates: {max_var_usd: 1000, max_var_age_s: 20}}\n")
    assert load_settings(path, {}).risk.period_s == 5.0


def test_too_few_looks_to_tell_a_late_thread_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.yml"
    path.write_text("collectors: {sampler_hz: 0.5}\n")
    with pytest.raises(ConfigError, match="sampler_hz"):
        load_settings(path, {})
