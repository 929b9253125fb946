"""The version of this Deskvigil."""

VERSION = "0.1.0"
