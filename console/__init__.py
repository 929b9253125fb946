"""The console's wiring: collectors, store, query, rules and pages. Only app.py imports it: the engine's children must not carry a web server."""
