"""All tables and the one writer, the live ring, the archive and its reader."""
