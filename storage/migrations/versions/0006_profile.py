"""Profiles: stacks that were taken of a process on demand."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "profile",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("t_ms", sa.BigInteger(), nullable=False, comment="when it was begun"),
        sa.Column("process", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False, comment="cpu or memory"),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("unit", sa.String(length=16), nullable=False, comment="of the weights: samples or bytes"),
        sa.Column("total", sa.BigInteger(), nullable=False, comment="sum of the weights"),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False, comment="zlib of collapsed stacks"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_profile")),
        comment="stacks taken of a process on demand",
    )
    op.create_index(op.f("ix_profile_t_ms"), "profile", ["t_ms"])


def downgrade() -> None:
    op.drop_table("profile")
