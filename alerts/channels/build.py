"""Which channels the settings ask for."""

from __future__ import annotations

from alerts.acklinks import AckLinks
from alerts.channels.channel import Channel
from alerts.options import AlertOptions
from metrics.clock import Clock
from metrics.errors import ConfigError


def build_channels(options: AlertOptions, clock: Clock, links: AckLinks | None = None) -> list[Channel]:
    """Make the configured channels; ConfigError names the setting that is wrong. links: makes acknowledge links."""
    channels: list[Channel] = []
    # Each channel's libraries are loaded only where it is asked for: the console has to start quickly.
    if options.email.host:
        from alerts.channels.email import EmailChannel

        channels.append(EmailChannel(options.email, clock, links))
    for webhook in (options.webhook, *options.more_webhooks):
        if webhook.url:
            from alerts.channels.webhook import WebhookChannel

            channels.append(WebhookChannel(webhook, clock))
    if options.apprise.urls:
        from alerts.channels.apprise import AppriseChannel

        channels.append(AppriseChannel(options.apprise))
    names = [channel.recipient.name for channel in channels]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"alerts: two channels are named {name!r}; give each its own name")
    return channels
