"""Alerting: suppressions, escalations, on-call, versions of rules, predictions; groups and leases of messages."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column(
        "alert_state",
        sa.Column("ack_until_ms", sa.BigInteger(), comment="when the acknowledgement lapses; NULL: never"),
    )
    op.add_column("alert_state", sa.Column("assigned_to", sa.Text()))
    op.add_column(
        "alert_state",
        sa.Column(
            "posted",
            sa.JSON(),
            comment="of an alert that was sent to us: {sender, ends_ms, generator_url}; NULL: it is a rule's",
        ),
    )
    op.add_column(
        "alert_state",
        sa.Column(
            "suppressed", sa.JSON(), comment="why nobody is told now: [{kind, by, until_ms}]; NULL: people are told"
        ),
    )
    op.add_column(
        "alert_state",
        sa.Column("flapping", sa.Integer(), server_default="0", nullable=False, comment="1: it comes and goes"),
    )
    op.add_column(
        "outbox",
        sa.Column("group_key", sa.Text(), server_default="", nullable=False, comment="rows of one group may go as one"),
    )
    op.add_column(
        "outbox",
        sa.Column(
            "priority", sa.Integer(), server_default="0", nullable=False, comment="larger goes first in its group"
        ),
    )
    op.add_column(
        "outbox",
        sa.Column(
            "batch_id",
            sa.String(length=128),
            comment="the message it goes out with; set before the first attempt, then fixed",
        ),
    )
    op.add_column(
        "outbox",
        sa.Column(
            "target",
            sa.JSON(),
            comment="whom of the channel: {person, to: [addresses]}; NULL: the channel's own receivers",
        ),
    )
    op.add_column(
        "outbox",
        sa.Column(
            "leased_until_ms", sa.BigInteger(), comment="in flight until then; afterwards another attempt may begin"
        ),
    )
    op.add_column(
        "outbox",
        sa.Column("leased_by", sa.String(length=128), comment="the process and thread that have it in flight"),
    )
    op.add_column("notification", sa.Column("batch_id", sa.String(length=128)))
    op.create_index(op.f("ix_outbox_batch_id"), "outbox", ["batch_id"])
    op.create_index(op.f("ix_outbox_alert_id"), "outbox", ["alert_id"])
    op.create_index(op.f("ix_outbox_channel_group_key_status"), "outbox", ["channel", "group_key", "status"])
    op.create_table(
        "suppression",
        sa.Column("id", KEY, nullable=False),
        sa.Column("t_ms", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.String(length=128), nullable=False, comment="of the change that nobody was told of"),
        sa.Column("alert_id", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column(
            "kind",
            sa.String(length=16),
            nullable=False,
            comment="silenced, inhibited, muted, flapping, acknowledged or unrouted",
        ),
        sa.Column(
            "by",
            sa.Text(),
            nullable=False,
            comment="the silence's id, the inhibiting alert, the interval's name, the person",
        ),
        sa.Column("until_ms", sa.BigInteger(), comment="NULL: not known"),
        sa.Column(
            "kept",
            sa.JSON(),
            nullable=False,
            comment="who was not told: channels, with a person's name where it is one",
        ),
        sa.Column("lifted_ms", sa.BigInteger(), comment="when the alert was told after all, or ended"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_suppression")),
        comment="why a change of an alert was not told: each has a message or a line here",
    )
    op.create_index(op.f("ix_suppression_alert_id"), "suppression", ["alert_id"])
    op.create_index(op.f("ix_suppression_t_ms"), "suppression", ["t_ms"])
    op.create_table(
        "escalation",
        sa.Column("alert_id", sa.String(length=64), nullable=False, comment="of a firing alert; gone when that ends"),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("chain", sa.JSON(), nullable=False, comment="the policy's steps as they were when it began"),
        sa.Column("state", sa.String(length=16), nullable=False, comment="running, acknowledged or exhausted"),
        sa.Column("step", sa.Integer(), nullable=False, comment="the next one to run, from 0"),
        sa.Column("round", sa.Integer(), server_default="0", nullable=False, comment="how often the chain began anew"),
        sa.Column("due_ms", sa.BigInteger(), comment="when the next step runs; NULL: never"),
        sa.Column("started_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("alert_id", name=op.f("pk_escalation")),
    )
    op.create_index(op.f("ix_escalation_state_due_ms"), "escalation", ["state", "due_ms"])
    op.create_table(
        "oncall_override",
        sa.Column("id", KEY, nullable=False),
        sa.Column("rota", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("starts_ms", sa.BigInteger(), nullable=False),
        sa.Column("ends_ms", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_oncall_override")),
        comment="who stands in for whoever the rota names",
    )
    op.create_index(op.f("ix_oncall_override_ends_ms"), "oncall_override", ["ends_ms"])
    op.create_table(
        "file_version",
        sa.Column("id", KEY, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False, comment="rules or policy"),
        sa.Column("name", sa.Text(), nullable=False, comment="the file's path as configured"),
        sa.Column("hash", sa.String(length=64), nullable=False, comment="SHA-256 of the text"),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("t_ms", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False, comment="a person who rolled back, or `reload`, or `start`"),
        sa.Column("outcome", sa.String(length=16), nullable=False, comment="loaded or refused"),
        sa.Column("note", sa.Text(), server_default="", nullable=False, comment="what was wrong with it"),
        sa.Column(
            "instead_of",
            sa.String(length=64),
            comment="hash of the file's own text that this older version stands in for until the file changes",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_file_version")),
        comment="every version of a rule or policy file that was read",
    )
    op.create_index(op.f("ix_file_version_kind_name_t_ms"), "file_version", ["kind", "name", "t_ms"])
    op.create_table(
        "prediction",
        sa.Column("id", KEY, nullable=False),
        sa.Column("t_ms", sa.BigInteger(), nullable=False, comment="when it was made"),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("eta_s", sa.Double(), nullable=False),
        sa.Column("eta_low_s", sa.Double(), nullable=False, comment="the interval's early end"),
        sa.Column("eta_high_s", sa.Double(), comment="its late end; NULL: open"),
        sa.Column("outcome", sa.String(length=16), nullable=False, comment="open, hit, late or false"),
        sa.Column("breached_ms", sa.BigInteger()),
        sa.Column("closed_ms", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prediction")),
        comment="breaches that were foretold, and what became of them",
    )
    op.create_index(op.f("ix_prediction_outcome"), "prediction", ["outcome"])
    op.create_index(op.f("ix_prediction_rule_t_ms"), "prediction", ["rule", "t_ms"])


def downgrade() -> None:
    op.drop_table("prediction")
    op.drop_table("file_version")
    op.drop_table("oncall_override")
    op.drop_table("escalation")
    op.drop_table("suppression")
    op.drop_index(op.f("ix_outbox_alert_id"), "outbox")
    op.drop_index(op.f("ix_outbox_channel_group_key_status"), "outbox")
    op.drop_index(op.f("ix_outbox_batch_id"), "outbox")
    op.drop_column("notification", "batch_id")
    op.drop_column("outbox", "leased_by")
    op.drop_column("outbox", "leased_until_ms")
    op.drop_column("outbox", "target")
    op.drop_column("outbox", "batch_id")
    op.drop_column("outbox", "priority")
    op.drop_column("outbox", "group_key")
    op.drop_column("alert_state", "flapping")
    op.drop_column("alert_state", "posted")
    op.drop_column("alert_state", "suppressed")
    op.drop_column("alert_state", "assigned_to")
    op.drop_column("alert_state", "ack_until_ms")
