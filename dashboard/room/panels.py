"""Panels: what the Engine page shows, as rows of words; what is wrong carries a severity and comes first.

A row is {"cells": [text, ...], "severity": tier or ""}; the page's script only writes them down. Limits
stand in the rules: a figure is marked while a rule that looks at it fires.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dashboard.room.engineroom import AlgoFigures, Cause, EngineRoom, Ratio
from dashboard.room.readings import Readings
from dashboard.room.words import NONE, count, number, percent, seconds, size, span
from dashboard.services import EngineInfo, ProcessInfo
from dashboard.timerange import show_time

Row = dict[str, Any]
_E = "deskvigil_engine_"
STATES = ("ACTIVE", "REDUCING", "HALTED")
BREAKERS = ("closed", "half open", "open")
MODES = ("normal", "degraded: less work", "degraded: no quotes either")
_RANK = {"emergency": 4, "critical": 3, "warning": 2, "info": 1, "": 0}
_CRITICAL_BY_STATE = {"HALTED": "critical", "REDUCING": "warning", "DOWN": "critical"}
RECENT_RESTART_S = 600.0


def engine_panels(
    readings: Readings, room: EngineRoom, info: EngineInfo, processes: Sequence[ProcessInfo], now_ms: int
) -> dict[str, Any]:
    """Every panel of the page by its name; `said` is why there are no present figures, or ""."""
    return {
        "said": silence(readings, room),
        "stale": readings.is_silent,
        "panels": {
            "summary": _summary(readings, room, info),
            "causes": _causes(room, now_ms),
            "processes": _processes(readings, processes, now_ms),
            "breakers": _breakers(readings),
            "rejects": _rejects(readings),
            "limiter": _limiter(readings),
            "queues": _queues(readings),
            "feed": _feed(readings, info),
            "journal": _journal(readings, room),
            "algos": _algos(room),
        },
    }


def silence(readings: Readings, room: EngineRoom) -> str:
    """In words why there are no present figures; "" while there are."""
    if readings.problem:
        return f"Nothing can be read now: {readings.problem}"
    if not readings.is_silent:
        return ""
    why = room.absence or "it says nothing"
    if math.isfinite(readings.age_s):
        return f"No data from the engine for {span(readings.age_s)}: {why}. Its figures below are the last ones."
    return f"No data from the engine: {why}."


def _row(*cells: str, severity: str = "", title: str = "") -> Row:
    return {"cells": cells, "severity": severity, "title": title}


def _panel(rows: Sequence[Row], note: str = "", nothing: str = "") -> dict[str, Any]:
    """Rows, the worst first and else as they are; what is said where there is none."""
    return {"rows": sorted(rows, key=lambda row: -_RANK[row["severity"]]), "note": note, "nothing": nothing}


def _state_word(words: Sequence[str], value: float) -> str:
    return words[int(value)] if math.isfinite(value) and 0 <= value < len(words) else NONE


def _summary(readings: Readings, room: EngineRoom, info: EngineInfo) -> dict[str, Any]:
    degraded = readings.value(_E + "degraded")
    breakers = readings.by(_E + "breaker_state", "breaker")
    away = sum(value != 0 for value in breakers.values())
    full = readings.value(_E + "journal_full")
    undurable = readings.value(_E + "journal_undurable_records")
    feed_s = readings.value(_E + "feed_age_seconds")
    causes = len(room.causes or ())
    rows = [
        _row("Trading", info.state, _plural(causes, "restriction") if room.causes is not None else "", severity=_CRITICAL_BY_STATE.get(info.state, "")),
        _row(
            "Mode", _state_word(MODES, degraded), "under pressure of CPU or memory" if degraded > 0 else "",
            severity="warning" if degraded > 0 else "",
        ),
        _row(
            "Breakers", NONE if not breakers else "all closed" if not away else f"{away} not closed",
            f"of {len(breakers)}" if breakers else "", severity="critical" if away else "",
        ),
        _row("Feed", seconds(feed_s), "old, newest event", severity=readings.severity(_E + "feed_age_seconds")),
        _row(
            "Journal", "full" if full > 0 else count(undurable), "" if full > 0 else "records not durable yet",
            severity="critical" if full > 0 else readings.severity(_E + "journal_undurable_records"),
        ),
        _kernels(readings, room),
    ]  # fmt: skip
    return {"rows": rows, "note": "", "nothing": ""}


def _kernels(readings: Readings, room: EngineRoom) -> Row:
    """An engine trades only once its kernels are there; until then its process says what it waits for."""
    if not readings.is_silent:
        return _row("Kernels", "ready", "compiled, in use")
    if "compil" in room.absence:
        return _row("Kernels", "compiling", room.absence, severity="warning", title=room.absence)
    return _row("Kernels", NONE, "the engine is not there")


def _causes(room: EngineRoom, now_ms: int) -> dict[str, Any]:
    if room.causes is None:
        return _panel([], nothing=f"{NONE}: the engine has told nothing yet")
    rows = [_cause_row(cause, now_ms) for cause in room.causes]
    return _panel(rows, f"{len(rows)} in force" if rows else "", "Nothing restricts trading, in any scope.")


def _cause_row(cause: Cause, now_ms: int) -> Row:
    since = f"{span((now_ms - cause.since_ms) / 1000)}, from {show_time(cause.since_ms)[11:]}"
    scope = "everything" if cause.scope == "all" else cause.scope
    return _row(
        scope, cause.state, cause.what, cause.who, cause.reason, since, severity=_CRITICAL_BY_STATE.get(cause.state, "")
    )


def _processes(readings: Readings, processes: Sequence[ProcessInfo], now_ms: int) -> dict[str, Any]:
    rows = []
    for process in processes:
        started = readings.value("deskvigil_process_start_time_seconds", process=process.name)
        lasts_s = now_ms / 1000 - started
        fresh = process.restarts > 0 and lasts_s < RECENT_RESTART_S
        severity = "critical" if process.state != "running" else "warning" if fresh else ""
        cpu = readings.value("deskvigil_process_cpu_ratio", process=process.name)
        memory = readings.value("deskvigil_process_resident_memory_bytes", process=process.name)
        rows.append(
            _row(
                process.name, process.state, count(process.restarts), span(lasts_s), percent(cpu), size(memory),
                severity=severity,
            )
        )  # fmt: skip
    return _panel(rows, "", f"{NONE}: the supervisor has told nothing")


def _breakers(readings: Readings) -> dict[str, Any]:
    states = readings.by(_E + "breaker_state", "breaker")
    rows = [
        _row(
            name.replace("_", " "),
            _state_word(BREAKERS, state),
            count(readings.value(_E + "breaker_trips_total", breaker=name)),
            span(readings.value(_E + "breaker_open_seconds", breaker=name)) if state else "",
            severity=("", "warning", "critical")[int(state)] if state in (0, 1, 2) else "",
        )
        for name, state in states.items()
    ]
    return _panel(rows, "closed is well", f"{NONE}: this engine publishes no breakers")


def _rejects(readings: Readings) -> dict[str, Any]:
    totals = readings.by(_E + "orders_rejected_total", "reason")
    rows, quiet = [], 0
    for reason, total in totals.items():
        recent = readings.grew("rejects", reason=reason)
        if not total > 0 and not recent > 0:
            quiet += 1
            continue
        rows.append((recent, _row(reason.replace("_", " "), count(recent), count(total))))
    rows.sort(key=lambda pair: -pair[0] if math.isfinite(pair[0]) else 0.0)
    severity = readings.severity(_E + "orders_rejected_total")
    if severity and rows:
        rows[0][1]["severity"] = severity
    nothing = "No order has been refused by a gate or the venue." if totals else NONE
    return _panel([row for _, row in rows], f"{quiet} reasons without a refusal" if totals else "", nothing)


def _limiter(readings: Readings) -> dict[str, Any]:
    names = sorted(readings.by(_E + "messages_total", "strategy"))
    rows = [
        _row(
            name,
            number(readings.grew("messages", strategy=name, kind="order"), 1, "/s"),
            number(readings.grew("messages", strategy=name, kind="cancel"), 1, "/s"),
            count(readings.value(_E + "message_tokens", strategy=name)),
            count(readings.value(_E + "strategy_rejects_total", strategy=name)),
        )
        for name in names
    ]
    return _panel(rows, "last 10 s; tokens: orders that may go at once", NONE)


def _queues(readings: Readings) -> dict[str, Any]:
    shown = (
        ("market events taken, not due", count(readings.value(_E + "events_ahead")), "events_ahead"),
        ("clients attached", count(readings.value(_E + "client_sessions")), "client_sessions"),
        ("clients' requests", number(readings.grew("requests"), 1, "/s"), "client_requests_total"),
        ("clients' requests waiting", count(readings.value(_E + "client_requests_waiting")), "client_requests_waiting"),
        ("answers not read by clients", count(readings.value(_E + "client_answers_waiting")), "client_answers_waiting"),
        ("answers lost", count(readings.value(_E + "client_answers_lost_total")), "client_answers_lost_total"),
        ("own orders working", count(readings.value(_E + "working_orders")), "working_orders"),
        ("fills lost", count(readings.value(_E + "fills_lost_total")), "fills_lost_total"),
        ("executions not recorded", count(readings.value(_E + "executions_unrecorded_total")), "executions_unrecorded_total"),
    )  # fmt: skip
    faults = {"client_answers_lost_total", "fills_lost_total", "executions_unrecorded_total"}
    rows = [
        _row(
            words, text, severity=readings.severity(_E + name) or ("critical" if _lost(readings, name, faults) else "")
        )
        for words, text, name in shown
    ]
    return _panel(rows)


def _lost(readings: Readings, name: str, faults: set[str]) -> bool:
    return name in faults and readings.value(_E + name) > 0


def _feed(readings: Readings, info: EngineInfo) -> dict[str, Any]:
    def marked(words: str, text: str, name: str) -> Row:
        return _row(words, text, severity=readings.severity(_E + name))

    rows = [
        _row("source", info.source or NONE),
        marked("newest event", _ago(readings.value(_E + "feed_age_seconds"), NONE), "feed_age_seconds"),
        marked("book behind the market", seconds(readings.value(_E + "event_lag_seconds")), "event_lag_seconds"),
        _row("events", number(readings.grew("events"), 0, "/s")),
        marked("late events, 5 min", count(readings.grew("late")), "late_events_total"),
        marked("gave up catching up, 5 min", count(readings.grew("rebases")), "timeline_rebases_total"),
        _row("session", span(readings.value(_E + "session_clock_seconds"))),
    ]
    return _panel(rows, "simulated market" if info.simulated_market else "")


def _journal(readings: Readings, room: EngineRoom) -> dict[str, Any]:
    width = room.journal_record_bytes
    rate = readings.grew("journal")
    recovered = readings.value(_E + "recovered_records")
    undurable = readings.value(_E + "journal_undurable_records")
    full = readings.value(_E + "journal_full")
    lost = readings.value(_E + "journal_lost_records_total")
    damaged = readings.value(_E + "recovered_damaged_records")
    poison = readings.value(_E + "recovered_poison_record")
    rows = [
        _row("writing", "no: full" if full > 0 else "yes" if full == 0 else NONE, severity="critical" if full > 0 else ""),
        _row("not durable yet", _amount(f"{count(undurable)} records", size(undurable * width)),
             severity=readings.severity(_E + "journal_undurable_records")),
        _row("written", _amount(number(rate, 0, "records/s"), f"{size(rate * width)}/s")),
        _row("last record", count(readings.value(_E + "journal_records_total"))),
        _row("last snapshot", NONE if readings.is_silent else _ago(readings.value(_E + "journal_snapshot_age_seconds")),
             severity=readings.severity(_E + "journal_snapshot_age_seconds")),
        _row("lost to a full disk", count(lost), severity="critical" if lost > 0 else ""),
        _row("recovered at the start", _amount(f"{count(recovered)} records", size(recovered * width))),
        _row("put aside as damaged", count(damaged), severity="warning" if damaged > 0 else ""),
        _row("left out as poison", f"record {count(poison)}" if poison > 0 else count(poison),
             severity="warning" if poison > 0 else ""),
    ]  # fmt: skip
    return _panel(rows)


def _ago(value: float, never: str = "none yet") -> str:
    return f"{seconds(value)} ago" if math.isfinite(value) else never


def _amount(records: str, in_bytes: str) -> str:
    """Records and their bytes, or one "no data" for both."""
    return NONE if NONE in records else f"{records}, {in_bytes}"


def _algos(room: EngineRoom) -> dict[str, Any]:
    rows = [_algo_row(one, room.baseline) for one in room.algos]
    note = f"youngest finished parents ({room.parents}), each alike; ± 95 %" if room.parents else ""
    panel = _panel(rows, note, "No parent order has finished yet.")
    if rows and not any(one.name == room.baseline for one in room.algos):
        panel["note"] += f"; no parent of the baseline ({room.baseline}) among them"
    return panel


def _algo_row(one: AlgoFigures, baseline: str) -> Row:
    is_base = one.name == baseline
    return _row(
        f"{one.name} (baseline)" if is_base else one.name,
        count(one.parents),
        _interval(one.fill, 100, 2, "%"),
        "" if is_base else _interval(one.fill_against, 100, 2, "%", signed=True),
        _interval(one.slippage, 1, 2, "bp", signed=True),
        "" if is_base else _interval(one.slippage_against, 1, 2, "bp", signed=True),
    )


def _interval(one: Ratio, scale: float, decimals: int, unit: str, *, signed: bool = False) -> str:
    if not math.isfinite(one.value):
        return NONE
    half = (one.high - one.value) * scale
    wide = f" ± {number(half, decimals)}" if math.isfinite(half) else ""
    return f"{number(one.value * scale, decimals, signed=signed)}{wide} {unit}"


def _plural(n: int, one: str, many: str = "") -> str:
    return f"{n} {one}" if n == 1 else f"{n or 'no'} {many or one + 's'}"
