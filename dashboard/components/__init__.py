"""Pieces of pages: tiles, charts, tables."""
