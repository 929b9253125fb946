"""Breaks: who explained one, and how, stays when it is closed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("fill_break", sa.Column("explained_by", sa.Text(), server_default="", nullable=False))
    op.add_column(
        "fill_break",
        sa.Column("explanation", sa.Text(), server_default="", nullable=False, comment="stays when it is closed"),
    )
    op.execute("UPDATE fill_break SET explained_by = who, explanation = comment WHERE state = 'explained'")


def downgrade() -> None:
    op.drop_column("fill_break", "explanation")
    op.drop_column("fill_break", "explained_by")
