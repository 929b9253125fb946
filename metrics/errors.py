"""Errors that are expected to happen, as one small hierarchy."""

from __future__ import annotations


class DeskvigilError(Exception):
    """An expected failure with a message for a person; `permanent` says that a retry cannot help."""

    permanent = True


class ConfigError(DeskvigilError):
    """A setting is unknown or wrong; the message names key, value and what is allowed."""


class TransientError(DeskvigilError):
    """A failure that may pass by itself: trying again makes sense."""

    permanent = False
