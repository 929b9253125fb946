"""The Monte-Carlo kernels on graphics processors: optional, chosen by itself, and never in trading's way."""
