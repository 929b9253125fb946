"""Forwarding to a remote store by Prometheus remote write, out of our own archive."""
