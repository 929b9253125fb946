"""What trades and prices: feeds, book, gates, execution, account, Monte-Carlo, telemetry."""
