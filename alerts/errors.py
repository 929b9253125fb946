"""What can go wrong in the alerts room and is expected to, sooner or later."""

from __future__ import annotations

from metrics.errors import ConfigError, DeskvigilError


class RuleError(ConfigError):
    """A rule file is wrong; the message names file, group and rule."""


class PolicyError(ConfigError):
    """A policy file is wrong; the message names file and line."""


class UnknownSilenceError(DeskvigilError):
    """There is no silence of this id, or not any more."""


class SilenceError(DeskvigilError):
    """A silence that cannot be: the message says what is wrong with it."""


class UnknownAlertError(DeskvigilError):
    """There is no such alert, or not any more."""


class NotFiringError(DeskvigilError):
    """The alert is pending: there is nothing to acknowledge yet."""


class AlreadyAcknowledgedError(DeskvigilError):
    """Somebody was faster; the message says who and when."""


class NotAcknowledgedError(DeskvigilError):
    """There is no acknowledgement to take back."""


class BulkRefusedError(DeskvigilError):
    """What is critical is acknowledged one by one; the message names the alerts."""


class UnknownPersonError(DeskvigilError):
    """The policy file knows nobody of that name; the message says whom it knows."""


class ChannelError(DeskvigilError):
    """A message could not be handed over. `permanent`: trying again cannot help.

    retry_after_s: how long the receiver asked to be left alone, if it did.
    """

    def __init__(self, message: str, *, permanent: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.retry_after_s = retry_after_s


class AuditError(DeskvigilError):
    """The audit could not be done now; the message says why."""

    permanent = False


class OverrideError(DeskvigilError):
    """Nobody can stand in like that; the message says why."""


class UnknownMessageError(DeskvigilError):
    """There is no such message, or nothing can be done about it; the message says why."""


class LinkError(DeskvigilError):
    """A link to acknowledge is not valid; the message says why, for the person who followed it."""
