"""What alerts did, who is told, and who is on duty."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Double, Index, Integer, String, Table, UniqueConstraint

from storage.tables.base import METADATA, Key, Words

alert_state = Table(
    "alert_state",
    METADATA,
    Column("fingerprint", String(64), primary_key=True, comment="hash of the label set"),
    Column("id", String(64), nullable=False, unique=True, comment="this episode of the alert; new at each activation"),
    Column("rule", Words, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("annotations", JSON, nullable=False),
    Column("state", String(16), nullable=False, comment="pending, firing or resolved"),
    Column("severity", String(16), nullable=False),
    Column("active_since_ms", BigInteger, nullable=False),
    Column("fired_at_ms", BigInteger),
    Column("resolved_at_ms", BigInteger),
    Column("keep_firing_since_ms", BigInteger),
    Column("last_eval_ms", BigInteger),
    Column("value", Double, comment="of the last evaluation; NULL where it is not a number"),
    Column("threshold", Double),
    Column("notified_ms", BigInteger, comment="when a message about it was last put into the outbox"),
    Column("acked_by", Words),
    Column("acked_at_ms", BigInteger),
    Column("ack_comment", Words),
    Column("ack_until_ms", BigInteger, comment="when the acknowledgement lapses; NULL: never"),
    Column("assigned_to", Words),
    Column(
        "suppressed",
        JSON(none_as_null=True),
        comment="why nobody is told now: [{kind, by, until_ms}]; NULL: people are told",
    ),
    Column(
        "posted",
        JSON(none_as_null=True),
        comment="of an alert that was sent to us: {sender, ends_ms, generator_url}; NULL: it is a rule's",
    ),
    Column("flapping", Integer, nullable=False, default=0, server_default="0", comment="1: it comes and goes"),
    Column("updated_ms", BigInteger, nullable=False),
    Index(None, "state"),
)

alert_event = Table(
    "alert_event",
    METADATA,
    Column("id", Key, primary_key=True),
    Column("t_ms", BigInteger, nullable=False),
    Column("alert_id", String(64), nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("rule", Words, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("annotations", JSON, nullable=False),
    Column("from_state", String(16), nullable=False),
    Column("to_state", String(16), nullable=False),
    Column("reason", String(64), nullable=False),
    Column("severity", String(16), nullable=False, comment="the tier at this moment"),
    Column("value", Double),
    Column("threshold", Double),
    Column("active_since_ms", BigInteger),
    Column("fired_at_ms", BigInteger),
    Column("who", Words, comment="a person, where one acted"),
    Column("comment", Words),
    Index(None, "t_ms"),
    Index(None, "alert_id"),
    comment="append-only history of every transition",
)

silence = Table(
    "silence",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("matchers", JSON, nullable=False),
    Column("starts_ms", BigInteger, nullable=False),
    Column("ends_ms", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("created_by", Words, nullable=False),
    Column("comment", Words, nullable=False),
    Index(None, "ends_ms"),
)

outbox = Table(
    "outbox",
    METADATA,
    Column("id", Key, primary_key=True),
    Column("event_id", String(128), nullable=False, comment="stable over retries; receivers drop repeats by it"),
    Column("channel", Words, nullable=False),
    Column("alert_id", String(64), nullable=False, comment="messages about one alert are delivered in order"),
    Column("payload", JSON, nullable=False),
    Column("reason", String(64), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("next_attempt_ms", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False, default=0, server_default="0"),
    Column("status", String(16), nullable=False, default="pending", server_default="pending"),
    Column("last_error", Words),
    Column("sent_ms", BigInteger),
    Column(
        "group_key", Words, nullable=False, default="", server_default="", comment="rows of one group may go as one"
    ),
    Column(
        "priority", Integer, nullable=False, default=0, server_default="0", comment="larger goes first in its group"
    ),
    Column("batch_id", String(128), comment="the message it goes out with; set before the first attempt, then fixed"),
    Column(
        "target",
        JSON(none_as_null=True),
        comment="whom of the channel: {person, to: [addresses]}; NULL: the channel's own receivers",
    ),
    Column("leased_until_ms", BigInteger, comment="in flight until then; afterwards another attempt may begin"),
    Column("leased_by", String(128), comment="the process and thread that have it in flight"),
    UniqueConstraint("event_id", "channel"),
    Index(None, "batch_id"),
    Index(None, "status", "next_attempt_ms"),
    Index(None, "channel", "status", "alert_id"),
    Index(None, "alert_id"),
    Index(None, "channel", "group_key", "status"),
    comment="what must be delivered; status is pending, sent or dead",
)

notification = Table(
    "notification",
    METADATA,
    Column("id", Key, primary_key=True),
    Column("outbox_id", BigInteger, nullable=False),
    Column("event_id", String(128), nullable=False),
    Column("channel", Words, nullable=False),
    Column("alert_id", String(64), nullable=False),
    Column("t_ms", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("outcome", String(16), nullable=False, comment="sent, failed or dead"),
    Column("reason", String(64), nullable=False),
    Column("error", Words),
    Column("took_ms", Double),
    Column("batch_id", String(128)),
    Index(None, "t_ms"),
    Index(None, "outbox_id"),
    comment="one row per attempt at one channel",
)

suppression = Table(
    "suppression",
    METADATA,
    Column("id", Key, primary_key=True),
    Column("t_ms", BigInteger, nullable=False),
    Column("event_id", String(128), nullable=False, comment="of the change that nobody was told of"),
    Column("alert_id", String(64), nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column(
        "kind", String(16), nullable=False, comment="silenced, inhibited, muted, flapping, acknowledged or unrouted"
    ),
    Column(
        "by", Words, nullable=False, comment="the silence's id, the inhibiting alert, the interval's name, the person"
    ),
    Column("until_ms", BigInteger, comment="NULL: not known"),
    Column("kept", JSON, nullable=False, comment="who was not told: channels, with a person's name where it is one"),
    Column("lifted_ms", BigInteger, comment="when the alert was told after all, or ended"),
    Index(None, "alert_id"),
    Index(None, "t_ms"),
    comment="why a change of an alert was not told: each has a message or a line here",
)

escalation = Table(
    "escalation",
    METADATA,
    Column("alert_id", String(64), primary_key=True, comment="of a firing alert; gone when that ends"),
    Column("policy", Words, nullable=False),
    Column("chain", JSON, nullable=False, comment="the policy's steps as they were when it began"),
    Column("state", String(16), nullable=False, comment="running, acknowledged or exhausted"),
    Column("step", Integer, nullable=False, comment="the next one to run, from 0"),
    Column("round", Integer, nullable=False, default=0, server_default="0", comment="how often the chain began anew"),
    Column("due_ms", BigInteger, comment="when the next step runs; NULL: never"),
    Column("started_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Index(None, "state", "due_ms"),
)

oncall_override = Table(
    "oncall_override",
    METADATA,
    Column("id", Key, primary_key=True),
    Column("rota", Words, nullable=False),
    Column("person", Words, nullable=False),
    Column("starts_ms", BigInteger, nullable=False),
    Column("ends_ms", BigInteger, nullable=False),
    Column("created_by", Words, nullable=False),
    Column("comment", Words, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Index(None, "ends_ms"),
    comment="who stands in for whoever the rota names",
)

file_version = Table(
    "file_version",
    METADATA,
    Column("id", Key, primary_key=True),
    Column("kind", String(16), nullable=False, comment="rules or policy"),
    Column("name", Words, nullable=False, comment="the file's path as configured"),
    Column("hash", String(64), nullable=False, comment="SHA-256 of the text"),
    Column("text", Words, nullable=False),
    Column("t_ms", BigInteger, nullable=False),
    Column("who", Words, nullable=False, comment="a person who rolled back, or `reload`, or `start`"),
    Column("outcome", String(16), nullable=False, comment="loaded or refused"),
    Column("note", Words, nullable=False, default="", server_default="", comment="what was wrong with it"),
    Column(
        "instead_of",
        String(64),
        comment="hash of the file's own text that this older version stands in for until the file changes",
    ),
    Index(None, "kind", "name", "t_ms"),
    comment="every version of a rule or policy file that was read",
)

prediction = Table(
    "prediction",
    METADATA,
    Column("id", Key, primary_key=True),
    Column("t_ms", BigInteger, nullable=False, comment="when it was made"),
    Column("rule", Words, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("labels", JSON, nullable=False),
    Column("threshold", Double, nullable=False),
    Column("eta_s", Double, nullable=False),
    Column("eta_low_s", Double, nullable=False, comment="the interval's early end"),
    Column("eta_high_s", Double, comment="its late end; NULL: open"),
    Column("outcome", String(16), nullable=False, comment="open, hit, late or false"),
    Column("breached_ms", BigInteger),
    Column("closed_ms", BigInteger),
    Index(None, "rule", "t_ms"),
    Index(None, "outcome"),
    comment="breaches that were foretold, and what became of them",
)
