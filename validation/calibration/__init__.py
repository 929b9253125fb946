"""How the synthetic market's figures are measured on recorded days (see data/README.md)."""
