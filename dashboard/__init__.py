"""The web: server, live hub, API, pages."""
