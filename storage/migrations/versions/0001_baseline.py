"""Baseline: every table of the first version."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "alert_event",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("t_ms", sa.BigInteger(), nullable=False),
        sa.Column("alert_id", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("annotations", sa.JSON(), nullable=False),
        sa.Column("from_state", sa.String(length=16), nullable=False),
        sa.Column("to_state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False, comment="the tier at this moment"),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("threshold", sa.Double(), nullable=True),
        sa.Column("active_since_ms", sa.BigInteger(), nullable=True),
        sa.Column("fired_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("who", sa.Text(), nullable=True, comment="a person, where one acted"),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_event")),
        comment="append-only history of every transition",
    )
    with op.batch_alter_table("alert_event", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_alert_event_alert_id"), ["alert_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_alert_event_t_ms"), ["t_ms"], unique=False)

    op.create_table(
        "alert_state",
        sa.Column("fingerprint", sa.String(length=64), nullable=False, comment="hash of the label set"),
        sa.Column(
            "id", sa.String(length=64), nullable=False, comment="this episode of the alert; new at each activation"
        ),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("annotations", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False, comment="pending, firing or resolved"),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("active_since_ms", sa.BigInteger(), nullable=False),
        sa.Column("fired_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("resolved_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("keep_firing_since_ms", sa.BigInteger(), nullable=True),
        sa.Column("last_eval_ms", sa.BigInteger(), nullable=True),
        sa.Column("value", sa.Double(), nullable=True, comment="of the last evaluation; NULL where it is not a number"),
        sa.Column("threshold", sa.Double(), nullable=True),
        sa.Column(
            "notified_ms",
            sa.BigInteger(),
            nullable=True,
            comment="when a message about it was last put into the outbox",
        ),
        sa.Column("acked_by", sa.Text(), nullable=True),
        sa.Column("acked_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("ack_comment", sa.Text(), nullable=True),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_alert_state")),
        sa.UniqueConstraint("id", name=op.f("uq_alert_state_id")),
    )
    with op.batch_alter_table("alert_state", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_alert_state_state"), ["state"], unique=False)

    op.create_table(
        "annotation",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("t_ms", sa.BigInteger(), nullable=False),
        sa.Column("t_end_ms", sa.BigInteger(), nullable=True, comment="NULL: an instant"),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), server_default="", nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_annotation")),
    )
    with op.batch_alter_table("annotation", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_annotation_t_ms"), ["t_ms"], unique=False)

    op.create_table(
        "audit",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
            comment="1, 2, 3, ... without a gap",
        ),
        sa.Column("t_ms", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("object", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False, comment="canonical JSON, exactly as hashed"),
        sa.Column("prev_hash", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
        sa.UniqueConstraint("hash", name=op.f("uq_audit_hash")),
        comment="append-only; each row's hash covers the row before",
    )
    with op.batch_alter_table("audit", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_audit_t_ms"), ["t_ms"], unique=False)

    op.create_table(
        "block",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("layout_id", sa.BigInteger(), nullable=False),
        sa.Column("t0_ms", sa.BigInteger(), nullable=False),
        sa.Column("t1_ms", sa.BigInteger(), nullable=False, comment="instant of the last sample"),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column(
            "times", sa.LargeBinary(), nullable=False, comment="pcodec int64[n], shared by all chunks of the block"
        ),
        sa.Column(
            "rollup_id",
            sa.BigInteger(),
            nullable=True,
            comment="rollup_block that holds its minutes; NULL: not rolled up yet",
        ),
        sa.Column("sealed_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_block")),
    )
    op.create_table(
        "chunk",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
            comment="block_id << 32 | series_id",
        ),
        sa.Column("count", sa.Integer(), nullable=False, comment="samples that are present"),
        sa.Column("min", sa.Double(), nullable=True),
        sa.Column("max", sa.Double(), nullable=True),
        sa.Column("sum", sa.Double(), nullable=True),
        sa.Column("last", sa.Double(), nullable=True),
        sa.Column(
            "data",
            sa.LargeBinary(),
            nullable=True,
            comment="pcodec float64[n of the block]; NULL: every value equals `last`",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chunk")),
    )
    op.create_table(
        "frame",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
            comment="block_id << 32 | position in the block",
        ),
        sa.Column("layout_id", sa.BigInteger(), nullable=False),
        sa.Column("t_ms", sa.BigInteger(), nullable=False),
        sa.Column(
            "data",
            sa.LargeBinary(),
            nullable=False,
            comment="little-endian float64, one value per series of the layout",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_frame")),
        comment="the hot tail: one row per collector and second until its block is sealed",
    )
    op.create_table(
        "ingest",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column(
            "data", sa.LargeBinary(), nullable=False, comment="int64 series ids[n], int64 t_ms[n], float64 values[n]"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ingest")),
        comment="samples that came in from outside, until they are sealed",
    )
    op.create_table(
        "job_run",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("job", sa.String(length=64), nullable=False),
        sa.Column("started_ms", sa.BigInteger(), nullable=False),
        sa.Column("finished_ms", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False, comment="running, ok, failed or interrupted"),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_run")),
    )
    with op.batch_alter_table("job_run", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_job_run_job_started_ms"), ["job", "started_ms"], unique=False)

    op.create_table(
        "layout",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("collector", sa.Text(), nullable=False, comment="empty: series that came in by ingest"),
        sa.Column(
            "series_ids", sa.LargeBinary(), nullable=False, comment="little-endian int64, in the order of the values"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_layout")),
        comment="which series lie side by side in a frame or block",
    )
    op.create_table(
        "meta",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_meta")),
    )
    op.create_table(
        "notification",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("outbox_id", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.String(length=128), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("alert_id", sa.String(length=64), nullable=False),
        sa.Column("t_ms", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False, comment="sent, failed or dead"),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("took_ms", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notification")),
        comment="one row per attempt at one channel",
    )
    with op.batch_alter_table("notification", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_notification_outbox_id"), ["outbox_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_notification_t_ms"), ["t_ms"], unique=False)

    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "event_id",
            sa.String(length=128),
            nullable=False,
            comment="stable over retries; receivers drop repeats by it",
        ),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column(
            "alert_id", sa.String(length=64), nullable=False, comment="messages about one alert are delivered in order"
        ),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("next_attempt_ms", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("status", sa.String(length=16), server_default="pending", nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("sent_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sa.UniqueConstraint("event_id", "channel", name=op.f("uq_outbox_event_id_channel")),
        comment="what must be delivered; status is pending, sent or dead",
    )
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_outbox_channel_status_alert_id"), ["channel", "status", "alert_id"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_outbox_status_next_attempt_ms"), ["status", "next_attempt_ms"], unique=False
        )

    op.create_table(
        "rollup_block",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("layout_id", sa.BigInteger(), nullable=False),
        sa.Column("t0_ms", sa.BigInteger(), nullable=False),
        sa.Column("t1_ms", sa.BigInteger(), nullable=False, comment="start of the last minute"),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("times", sa.LargeBinary(), nullable=False, comment="pcodec int64[n], starts of minutes"),
        sa.Column("sealed_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollup_block")),
    )
    op.create_table(
        "rollup_chunk",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
            comment="rollup_block_id << 32 | series_id",
        ),
        sa.Column("data", sa.LargeBinary(), nullable=False, comment="min, max, sum, count, last: five packed columns"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollup_chunk")),
    )
    op.create_table(
        "series",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False, comment="canonical JSON object, names sorted"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series")),
        sa.UniqueConstraint("name", "labels", name=op.f("uq_series_name_labels")),
    )
    op.create_table(
        "silence",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("matchers", sa.JSON(), nullable=False),
        sa.Column("starts_ms", sa.BigInteger(), nullable=False),
        sa.Column("ends_ms", sa.BigInteger(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_silence")),
    )
    with op.batch_alter_table("silence", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_silence_ends_ms"), ["ends_ms"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("silence", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_silence_ends_ms"))

    op.drop_table("silence")
    op.drop_table("series")
    op.drop_table("rollup_chunk")
    op.drop_table("rollup_block")
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_outbox_status_next_attempt_ms"))
        batch_op.drop_index(batch_op.f("ix_outbox_channel_status_alert_id"))

    op.drop_table("outbox")
    with op.batch_alter_table("notification", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_notification_t_ms"))
        batch_op.drop_index(batch_op.f("ix_notification_outbox_id"))

    op.drop_table("notification")
    op.drop_table("meta")
    op.drop_table("layout")
    with op.batch_alter_table("job_run", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_job_run_job_started_ms"))

    op.drop_table("job_run")
    op.drop_table("ingest")
    op.drop_table("frame")
    op.drop_table("chunk")
    op.drop_table("block")
    with op.batch_alter_table("audit", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_audit_t_ms"))

    op.drop_table("audit")
    with op.batch_alter_table("annotation", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_annotation_t_ms"))

    op.drop_table("annotation")
    with op.batch_alter_table("alert_state", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_alert_state_state"))

    op.drop_table("alert_state")
    with op.batch_alter_table("alert_event", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_alert_event_t_ms"))
        batch_op.drop_index(batch_op.f("ix_alert_event_alert_id"))

    op.drop_table("alert_event")
