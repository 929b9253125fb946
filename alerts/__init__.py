"""Rules, alert states, the outbox and its channels."""
