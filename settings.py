"""Settings: one YAML file and the environment, built into each room's own frozen options.

Every key can be set as `DESKVIGIL_SECTION__KEY`; with `_FILE` appended the value is read from a
file (for secrets). The environment wins over the file. Unknown and wrong keys fail with a message
that names key, value, where it came from, and what is allowed.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from alerts.options import AlertOptions
from collectors.options import CollectorOptions
from dashboard.options import WebOptions
from engine.montecarlo.options import RiskOptions
from engine.options import EngineOptions
from metrics.errors import ConfigError
from query.options import QueryOptions
from resources.cpuoptions import ResourceOptions
from resources.memoryoptions import MemoryOptions
from storage.options import DatabaseOptions, StorageOptions

PREFIX = "DESKVIGIL_"
MASK = "********"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All options, a field for each section of the YAML file; the defaults are what ships."""

    data_dir: Path = Path("var")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    engine: EngineOptions = field(default_factory=EngineOptions)
    risk: RiskOptions = field(default_factory=RiskOptions)
    collectors: CollectorOptions = field(default_factory=CollectorOptions)
    storage: StorageOptions = field(default_factory=StorageOptions)
    database: DatabaseOptions = field(default_factory=DatabaseOptions)
    query: QueryOptions = field(default_factory=QueryOptions)
    alerts: AlertOptions = field(default_factory=AlertOptions)
    web: WebOptions = field(default_factory=WebOptions)
    memory: MemoryOptions = field(default_factory=MemoryOptions)
    resources: ResourceOptions = field(default_factory=ResourceOptions)

    def __post_init__(self) -> None:
        limit, oldest_s = self.engine.gates.max_var_usd, self.engine.gates.max_var_age_s
        if limit > 0.0 and self.risk.period_s >= oldest_s:
            raise ValueError(
                f"engine.gates.max_var_usd with risk.period_s {self.risk.period_s:g}: VaR would always be older than"
                f" engine.gates.max_var_age_s ({oldest_s:g} s), and every order that adds risk refused"
            )


def load_settings(
    path: Path | None, environ: Mapping[str, str] | None = None, overrides: Mapping[str, Any] | None = None
) -> Settings:
    """Read settings; `overrides` (command-line flags, dotted keys) win over environment and file.

    Raises ConfigError with one line per problem.
    """
    tree: dict[str, Any] = {}
    origin: dict[str, str] = {}
    if path is not None:
        _merge(tree, _read_yaml(path), origin, f"in {path}")
    for key, value, source in _environment(os.environ if environ is None else environ):
        _put(tree, key, value)
        origin[key] = f"from {source}"
    for key, value in (overrides or {}).items():
        if value is not None:
            _put(tree, key, value)
            origin[key] = "from the command line"
    problems = _unknown_keys(Settings, tree, "", origin)
    if problems:
        raise ConfigError("\n".join(problems))
    try:
        return TypeAdapter(Settings).validate_python(tree)
    except ValidationError as error:
        raise ConfigError("\n".join(_wrong_values(error, origin))) from None


def describe(settings: Settings) -> str:
    """The effective settings as YAML, secrets masked."""
    return yaml.safe_dump(_plain(settings), sort_keys=False)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"configuration file {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration file {path} is not YAML: {error}") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"configuration file {path} must hold keys and values, not a {type(loaded).__name__}")
    return loaded


def _environment(environ: Mapping[str, str]) -> list[tuple[str, Any, str]]:
    found = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in _NOT_SETTINGS:
            continue
        key = name[len(PREFIX) :].lower().replace("__", ".")
        text = environ[name]
        if key.endswith("_file") and _type_of(key) is None:
            key = key.removesuffix("_file")
            try:
                text = Path(text).read_text().rstrip("\n")
            except OSError as error:
                raise ConfigError(f"{name}: cannot read {text}: {error.strerror}") from None
        found.append((key, _from_text(key, text, name), name))
    return found


# What tests, benchmarks and calibration look at (recorded data, peers, how much); programs that they start see it too.
_NOT_SETTINGS = frozenset(
    f"DESKVIGIL_{name}"
    for name in (
        "MARKETDATA", "PROMQLTEST", "METRICSDATA", "BENCH_DIR", "BENCH_DAYS", "BENCH_SERIES", "BOOK_PEERS",
        "PEER_EXAMPLES", "RACES", "SCREENSHOTS",
    )
)  # fmt: skip


def _from_text(key: str, text: str, name: str) -> Any:
    """Text stays text where the setting is text; everything else is read as YAML (numbers, lists)."""
    kind = _type_of(key)
    if kind is None or _is_text(kind):
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"{key} (from {name}): {text!r} cannot be read as YAML") from None


def _is_text(kind: Any) -> bool:
    if get_origin(kind) is Annotated:
        return _is_text(get_args(kind)[0])
    if get_origin(kind) is Literal:
        return True
    arguments = [argument for argument in get_args(kind) if argument is not type(None)]
    if arguments and get_origin(kind) not in (tuple, list, dict):
        return all(_is_text(argument) for argument in arguments)
    return kind in (str, Path)


def _type_of(key: str) -> Any:
    kind: Any = Settings
    for part in key.split("."):
        if not is_dataclass(kind):
            return None
        hints = get_type_hints(kind, include_extras=True)
        if part not in hints:
            return None
        kind = hints[part]
    return kind


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    node = tree
    for part in path:
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{part} in {key} is not a section")
        node = child
    node[last] = value


def _merge(tree: dict[str, Any], more: Mapping[str, Any], origin: dict[str, str], where: str, prefix: str = "") -> None:
    for key, value in more.items():
        name = f"{prefix}{key}"
        if value is None and is_dataclass(_type_of(name)):
            value = {}  # a section with nothing under it
        if isinstance(value, dict) and is_dataclass(_type_of(name)):
            _merge(tree.setdefault(key, {}), value, origin, where, f"{name}.")
        else:
            tree[key] = value
            origin[name] = where


def _unknown_keys(kind: Any, tree: Mapping[Any, Any], prefix: str, origin: Mapping[str, str]) -> list[str]:
    hints = get_type_hints(kind)
    problems = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if key not in hints:
            close = difflib.get_close_matches(str(key), hints, n=1)
            hint = f"; did you mean {prefix}{close[0]}?" if close else "."
            where = _origin_of(name, origin)
            allowed = ", ".join(sorted(hints))
            problems.append(f"{name}: unknown key{where}{hint} Allowed here: {allowed}")
        elif is_dataclass(hints[key]) and not isinstance(value, Mapping):
            problems.append(f"{name}: {value!r} is not allowed: a section with keys is expected")
        else:
            problems += _unknown_within(hints[key], value, name, origin)
    return problems


def _unknown_within(kind: Any, value: Any, name: str, origin: Mapping[str, str]) -> list[str]:
    """Unknown keys of a section, or of the sections in a list: `collectors.scrape.0.job_nme`."""
    inner = _inner(kind)
    if isinstance(value, Mapping) and is_dataclass(inner):
        return _unknown_keys(inner, value, f"{name}.", origin)
    if isinstance(value, (list, tuple)) and (element := _element(inner)) is not None:
        return [
            problem
            for number, item in enumerate(value)
            for problem in _unknown_within(element, item, f"{name}.{number}", origin)
        ]
    return []


def _inner(kind: Any) -> Any:
    """A type without its annotations and without "or nothing"."""
    if get_origin(kind) is Annotated:
        return _inner(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        some = [argument for argument in get_args(kind) if argument is not type(None)]
        return _inner(some[0]) if len(some) == 1 else kind
    return kind


def _element(kind: Any) -> Any:
    """The type of a list's items; None where it is no list."""
    return get_args(kind)[0] if get_origin(kind) in (tuple, list) else None


def _wrong_values(error: ValidationError, origin: Mapping[str, str]) -> list[str]:
    lines = []
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "missing":
            lines.append(f"{name}: is missing{_origin_of(name, origin)}")
        elif isinstance(problem["input"], (str, int, float, type(None))):
            shown = "(a secret)" if _is_secret(problem["loc"]) else repr(problem["input"])
            lines.append(f"{name}: {shown} is not allowed{_origin_of(name, origin)}: {message}")
        else:  # a whole section, which may hold secrets: its words stay out
            lines.append(f"{name}: is not allowed{_origin_of(name, origin)}: {message}")
    return lines


def _origin_of(name: str, origin: Mapping[str, str]) -> str:
    """Where a key was set, in brackets: its own entry, one below it, or one above it."""
    for key, where in origin.items():
        if key == name or key.startswith(f"{name}.") or name.startswith(f"{key}."):
            return f" ({where})"
    return ""


def _is_secret(location: tuple[int | str, ...]) -> bool:
    kind: Any = Settings
    for part in location:
        if isinstance(part, int):
            kind = _inner(_element(kind))
            continue
        if not is_dataclass(kind):
            return False
        member = next((item for item in fields(kind) if item.name == part), None)
        if member is None:
            return False
        if not member.repr:
            return True
        kind = _inner(get_type_hints(kind)[member.name])
    return False


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: _masked(item, getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def _masked(item: Any, value: Any) -> Any:
    if not item.repr and value not in ("", None, ()):
        return [MASK for _ in value] if isinstance(value, tuple) else MASK
    return _plain(value)
