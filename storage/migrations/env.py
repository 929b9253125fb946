"""Alembic's environment: runs inside the transaction that `storage.migrations.migrate` opened."""

from __future__ import annotations

from alembic import context

from storage.tables import METADATA

# foreign_keys stay off (see storage.database): batch mode recreates tables, and with the pragma
# on, dropping the old one would delete the children of its rows.
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,
    transactional_ddl=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
