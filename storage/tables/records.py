"""What people and jobs did."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Double, Index, LargeBinary, String, Table, UniqueConstraint

from storage.tables.base import METADATA, Key, Words

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
