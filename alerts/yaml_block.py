"""Strict YAML: scalars stay text (as Go reads them into strings), duplicate keys fail, lines are known."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

_Loader: type[yaml.BaseLoader] = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
MAX_BYTES = 4 * 1024 * 1024


class Block(dict[str, Any]):
    """A YAML mapping that knows its line and its keys' (counted from 1)."""

    line = 0

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}


class YamlError(ValueError):
    """The text is not the YAML that was expected; the message names the line."""


class _StrictLoader(_Loader):  # type: ignore[misc, valid-type]
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        block = Block()
        block.line = node.start_mark.line + 1
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise YamlError(f"line {line}: a key must be plain text")
            if key in block:
                raise YamlError(f"line {line}: key {key!r} is there twice")
            block[key] = self.construct_object(value_node, deep=True)
            block.lines[key] = line
        return block  # type: ignore[return-value]


def _construct_mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)


def load_yaml(text: str) -> Any:
    """Return the document as Block, list and str only; YamlError where it is not well-formed."""
    if len(text) > MAX_BYTES:
        raise YamlError(f"longer than {MAX_BYTES} bytes")
    loader = _StrictLoader(text)
    try:
        node = loader.get_single_node()
        return None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark is not None else ""
        raise YamlError(f"{line}{error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise YamlError(str(error)) from None
    finally:
        loader.dispose()
