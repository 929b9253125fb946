"""Every table of Deskvigil, as SQLAlchemy Core; works on SQLite and PostgreSQL.

Instants are int64 milliseconds since the epoch (`*_ms`). The first group holds numbers (series,
frames, chunks, rollups; always SQLite), the second holds what people and alerts did. Rows of the
second group name each other by value, not by foreign key: histories outlive what they tell of.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.engine import Dialect

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Words(TypeDecorator[str]):
    """Text that people and programs wrote. PostgreSQL takes neither NUL nor half a surrogate pair: they become U+FFFD."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else clean(value)


def clean(text: str) -> str:
    """Return `text` as every database stores it."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    return text


# SQLite makes a primary key its row id (one B-tree, time order) only where the type is INTEGER.
Key = BigInteger().with_variant(Integer(), "sqlite")

# --- numbers ---------------------------------------------------------------------------------

series_page = Table(
    "series_page",
    METADATA,
    Column("id", Key, primary_key=True),
    Column("n", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False, comment="zlib of JSON [[id, name, labels], ...]"),
)

layout = Table(
    "layout",
    METADATA,
    Column("id", Key, primary_key=True, autoincrement=False),
    Column("collector", Text, nullable=False, comment="empty: series that came in by ingest"),
    Column("series_ids", LargeBinary, nullable=False, comment="little-endian int64, in the order of the values"),
    comment="which series lie side by side in a frame or block",
)

frame = Table(
    "frame",
    METADATA,
    Column("id", Key, primary_key=True, autoincrement=False, comment="block_id << 32 | position in the block"),
    Column("layout_id", BigInteger, nullable=False),
    Column("t_ms", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False, comment="little-endian float64, one value per series of the layout"),
    comment="the hot tail: one row per collector and second until its block is sealed",
)

ingest = Table(
    "ingest",
    METADATA,
    Column("id", Key, primary_key=True, autoincrement=False),
    Column("n", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False, comment="int64 series ids[n], int64 t_ms[n], float64 values[n]"),
    comment="samples that came in from outside, until they are sealed",
)

block = Table(
    "block",
    METADATA,
    Column("id", Key, primary_key=True, autoincrement=False),
    Column("layout_id", BigInteger, nullable=False),
    Column("t0_ms", BigInteger, nullable=False),
    Column("t1_ms", BigInteger, nullable=False, comment="instant of the last sample"),
    Column("n", Integer, nullable=False),
    Column("times", LargeBinary, nullable=False, comment="pcodec int64[n], shared by all chunks of the block"),
    Column("rollup_id", BigInteger, comment="rollup_block that holds its minutes; NULL: not rolled up yet"),
    Column("sealed_ms", BigInteger, nullable=False),
)

# The comments in the table are those of version 0.1, whose blocks stay readable: one row per series. Now a row is a
# pack (storage/packs.py): the key ends with the position of its first column, count is how many it has, the four
# headers are NULL. series_ids of a layout are pcodec now.
chunk = Table(
    "chunk",
    METADATA,
    Column("id", Key, primary_key=True, autoincrement=False, comment="block_id << 32 | series_id"),
    Column("count", Integer, nullable=False, comment="samples that are present"),
    Column("min", Double),
    Column("max", Double),
    Column("sum", Double),
    Column("last", Double),
    Column("data", LargeBinary, comment="pcodec float64[n of the block]; NULL: every value equals `last`"),
)

rollup_block = Table(
    "rollup_block",
    METADATA,
    Column("id", Key, primary_key=True, autoincrement=False),
    Column("layout_id", BigInteger, nullable=False),
    Column("t0_ms", BigInteger, nullable=False),
    Column("t1_ms", BigInteger, nullable=False, comment="start of the last minute"),
    Column("n", Integer, nullable=False),
    Column("times", LargeBinary, nullable=False, comment="pcodec int64[n], starts of minutes"),
    Column("sealed_ms", BigInteger, nullable=False),
)

rollup_chunk = Table(
    "rollup_chunk",
    METADATA,
    Column("id", Key, primary_key=True, autoincrement=False, comment="rollup_block_id << 32 | series_id"),
    Column("data", LargeBinary, nullable=False, comment="min, max, sum, count, last: five packed columns"),
)

# --- alerts ----------------------------------------------------------------------------------

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
    UniqueConstraint("event_id", "channel"),
    Index(None, "status", "next_attempt_ms"),
    Index(None, "channel", "status", "alert_id"),
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
    Index(None, "t_ms"),
    Index(None, "outbox_id"),
    comment="one row per attempt at one channel",
)

# --- people and jobs -------------------------------------------------------------------------

annotation = Table(
    "annotation",
    METADATA,
    Column("id", Key, primary_key=True),
    Column("t_ms", BigInteger, nullable=False),
    Column("t_end_ms", BigInteger, comment="NULL: an instant"),
    Column("kind", String(64), nullable=False),
    Column("title", Words, nullable=False),
    Column("text", Words, nullable=False, default="", server_default=""),
    Column("tags", JSON, nullable=False),
    Index(None, "t_ms"),
)

audit = Table(
    "audit",
    METADATA,
    Column("id", Key, primary_key=True, autoincrement=False, comment="1, 2, 3, ... without a gap"),
    Column("t_ms", BigInteger, nullable=False),
    Column("who", Words, nullable=False),
    Column("action", Words, nullable=False),
    Column("object", Words, nullable=False),
    Column("detail", Words, nullable=False, comment="canonical JSON, exactly as hashed"),
    Column("prev_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    Index(None, "t_ms"),
    comment="append-only; each row's hash covers the row before",
)

job_run = Table(
    "job_run",
    METADATA,
    Column("id", Key, primary_key=True),
    Column("job", String(64), nullable=False),
    Column("started_ms", BigInteger, nullable=False),
    Column("finished_ms", BigInteger),
    Column("status", String(16), nullable=False, comment="running, ok, failed or interrupted"),
    Column("detail", Words, nullable=False, default="", server_default=""),
    Index(None, "job", "started_ms"),
)

saved_view = Table(
    "saved_view",
    METADATA,
    Column("id", Key, primary_key=True),
    Column("page", String(64), nullable=False, comment="which page it opens"),
    Column("name", Words, nullable=False),
    Column("search", Words, nullable=False, comment="the page's query string"),
    Column("created_by", Words, nullable=False, default="", server_default=""),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    UniqueConstraint("page", "name"),
)

fill_break = Table(
    "fill_break",
    METADATA,
    Column("id", Key, primary_key=True),
    Column("key", Words, nullable=False, unique=True, comment="the same however often the break is found"),
    Column("kind", String(16), nullable=False),
    Column("t_ms", BigInteger, nullable=False, comment="wall clock of the execution"),
    Column("found_ms", BigInteger, nullable=False),
    Column("run_ns", BigInteger, nullable=False, comment="the books' life; 0 where it is not about one execution"),
    Column("session", BigInteger, nullable=False),
    Column("execution", BigInteger, nullable=False),
    Column("symbol", Words, nullable=False),
    Column("detail", JSON, nullable=False),
    Column("state", String(16), nullable=False, comment="open, explained or closed"),
    Column("who", Words, nullable=False, default="", server_default=""),
    Column("comment", Words, nullable=False, default="", server_default=""),
    Column("changed_ms", BigInteger, nullable=False),
    Column("explained_by", Words, nullable=False, default="", server_default=""),
    Column("explanation", Words, nullable=False, default="", server_default="", comment="stays when it is closed"),
    Index(None, "state"),
    Index(None, "t_ms"),
    comment="where our record of executions and the drop copy do not agree",
)

settlement = Table(
    "settlement",
    METADATA,
    Column("id", Key, primary_key=True),
    Column("run_ns", BigInteger, nullable=False),
    Column("session", BigInteger, nullable=False),
    Column("symbol", Words, nullable=False),
    Column("t_ms", BigInteger, nullable=False),
    Column("mark_usd", Double, nullable=False),
    Column("mark_from", String(16), nullable=False, comment="mid, last_mid, last_trade or none"),
    Column("position", BigInteger, nullable=False, comment="lots, before it was closed at the mark"),
    Column("realised_usd", Double, nullable=False),
    Column("unrealised_usd", Double, nullable=False),
    Column("fees_usd", Double, nullable=False),
    Column("pnl_usd", Double, nullable=False, comment="after fees"),
    Column("detail", JSON, nullable=False, comment="all of the engine's record"),
    UniqueConstraint("run_ns", "session", "symbol"),
    Index(None, "t_ms"),
    comment="what each instrument came to at the end of each session",
)

profile = Table(
    "profile",
    METADATA,
    Column("id", Key, primary_key=True),
    Column("t_ms", BigInteger, nullable=False, comment="when it was begun"),
    Column("process", Words, nullable=False),
    Column("kind", String(16), nullable=False, comment="cpu or memory"),
    Column("seconds", Double, nullable=False),
    Column("unit", String(16), nullable=False, comment="of the weights: samples or bytes"),
    Column("total", BigInteger, nullable=False, comment="sum of the weights"),
    Column("who", Words, nullable=False),
    Column("reason", Words, nullable=False),
    Column("data", LargeBinary, nullable=False, comment="zlib of collapsed stacks"),
    Index(None, "t_ms"),
    comment="stacks taken of a process on demand",
)

meta = Table(
    "meta",
    METADATA,
    Column("key", String(64), primary_key=True),
    Column("value", Words, nullable=False),
)

# Kept for whoever needs to tell the groups apart (a PostgreSQL database leaves the first empty).
NUMBERS = (series_page, layout, frame, ingest, block, chunk, rollup_block, rollup_chunk)
ROLLUP_COLUMNS = ("min", "max", "sum", "count", "last")

__all__ = [
    "METADATA",
    "NUMBERS",
    "ROLLUP_COLUMNS",
    "Words",
    "alert_event",
    "alert_state",
    "annotation",
    "audit",
    "block",
    "chunk",
    "clean",
    "fill_break",
    "frame",
    "ingest",
    "job_run",
    "layout",
    "meta",
    "notification",
    "outbox",
    "profile",
    "rollup_block",
    "rollup_chunk",
    "saved_view",
    "series_page",
    "settlement",
    "silence",
]
