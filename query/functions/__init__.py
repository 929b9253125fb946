"""PromQL's functions, by what they work on; `functions.registry` says which name means which."""
