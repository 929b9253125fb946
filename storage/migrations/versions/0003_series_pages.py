"""Series move from one row each, with an index as large as the table, into pages of many."""

from __future__ import annotations

import json
import zlib

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_PAGE = 1_000


def upgrade() -> None:
    page = op.create_table(
        "series_page",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False, comment="zlib of JSON [[id, name, labels], ...]"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series_page")),
    )
    connection = op.get_bind()
    rows = connection.execute(sa.text("SELECT id, name, labels FROM series ORDER BY id")).all()
    for start in range(0, len(rows), _PAGE):
        some = [[row[0], row[1], json.loads(row[2])] for row in rows[start : start + _PAGE]]
        text = json.dumps(some, ensure_ascii=False, separators=(",", ":"))
        data = zlib.compress(text.encode("utf-8", "surrogatepass"), 9)
        connection.execute(sa.insert(page), {"n": len(some), "data": data})
    op.drop_table("series")


def downgrade() -> None:
    series = op.create_table(
        "series",
        sa.Column("id", _KEY, autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False, comment="canonical JSON object, names sorted"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series")),
        sa.UniqueConstraint("name", "labels", name=op.f("uq_series_name_labels")),
    )
    connection = op.get_bind()
    known = {}
    for (data,) in connection.execute(sa.text("SELECT data FROM series_page ORDER BY id")).all():
        for series_id, name, labels in json.loads(zlib.decompress(data).decode("utf-8", "surrogatepass")):
            known[series_id] = {"id": series_id, "name": name, "labels": json.dumps(labels, ensure_ascii=False)}
    if known:
        connection.execute(sa.insert(series), list(known.values()))
    op.drop_table("series_page")
