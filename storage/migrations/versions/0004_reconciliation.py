"""Reconciliation: breaks between our executions and the drop copy, and settlements of sessions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "fill_break",
        sa.Column("id", key, nullable=False),
        sa.Column("key", sa.Text(), nullable=False, comment="the same however often the break is found"),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("t_ms", sa.BigInteger(), nullable=False, comment="wall clock of the execution"),
        sa.Column("found_ms", sa.BigInteger(), nullable=False),
        sa.Column(
            "run_ns", sa.BigInteger(), nullable=False, comment="the books' life; 0 where it is not about one execution"
        ),
        sa.Column("session", sa.BigInteger(), nullable=False),
        sa.Column("execution", sa.BigInteger(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False, comment="open, explained or closed"),
        sa.Column("who", sa.Text(), server_default="", nullable=False),
        sa.Column("comment", sa.Text(), server_default="", nullable=False),
        sa.Column("changed_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fill_break")),
        sa.UniqueConstraint("key", name=op.f("uq_fill_break_key")),
        comment="where our record of executions and the drop copy do not agree",
    )
    op.create_index(op.f("ix_fill_break_state"), "fill_break", ["state"])
    op.create_index(op.f("ix_fill_break_t_ms"), "fill_break", ["t_ms"])
    op.create_table(
        "settlement",
        sa.Column("id", key, nullable=False),
        sa.Column("run_ns", sa.BigInteger(), nullable=False),
        sa.Column("session", sa.BigInteger(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("t_ms", sa.BigInteger(), nullable=False),
        sa.Column("mark_usd", sa.Double(), nullable=False),
        sa.Column("mark_from", sa.String(length=16), nullable=False, comment="mid, last_mid, last_trade or none"),
        sa.Column("position", sa.BigInteger(), nullable=False, comment="lots, before it was closed at the mark"),
        sa.Column("realised_usd", sa.Double(), nullable=False),
        sa.Column("unrealised_usd", sa.Double(), nullable=False),
        sa.Column("fees_usd", sa.Double(), nullable=False),
        sa.Column("pnl_usd", sa.Double(), nullable=False, comment="after fees"),
        sa.Column("detail", sa.JSON(), nullable=False, comment="all of the engine's record"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_settlement")),
        sa.UniqueConstraint("run_ns", "session", "symbol", name=op.f("uq_settlement_run_ns_session_symbol")),
        comment="what each instrument came to at the end of each session",
    )
    op.create_index(op.f("ix_settlement_t_ms"), "settlement", ["t_ms"])


def downgrade() -> None:
    op.drop_table("settlement")
    op.drop_table("fill_break")
