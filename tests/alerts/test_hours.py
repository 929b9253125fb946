"""Active hours follow the zone's own clock."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from alerts.hours import ActiveHours, parse_days, parse_time, parse_zone


def ms(text: str, zone: str = "UTC") -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


NEW_YORK = ActiveHours(
    parse_days(["mon-fri"]), parse_time("09:30"), parse_time("16:00"), parse_zone("America/New_York")
)


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("2026-11-23 09:30", True),
        ("2026-11-23 09:29:59", False),
        ("2026-11-23 15:59:59", True),
        ("2026-11-23 16:00", False),
        ("2026-11-22 12:00", False),
        ("2026-07-01 09:30", True),
    ],
)
def test_a_session_is_told_by_local_time_in_winter_and_summer(text, inside):
    assert NEW_YORK.contains(ms(text, "America/New_York")) is inside


def test_a_stretch_over_midnight_belongs_to_the_day_it_begins_on():
    night = ActiveHours(parse_days(["fri"]), parse_time("22:00"), parse_time("06:00"), parse_zone("UTC"))
    assert night.contains(ms("2026-11-27 23:00"))
    assert night.contains(ms("2026-11-28 05:59"))
    assert not night.contains(ms("2026-11-27 05:00"))
    assert not night.contains(ms("2026-11-28 23:00"))


def test_a_whole_day_ends_at_24():
    day = ActiveHours(parse_days(["sat-sun"]), parse_time("00:00"), parse_time("24:00"), parse_zone("UTC"))
    assert day.contains(ms("2026-11-28 23:59"))
    assert day.contains(ms("2026-11-28 00:00"))
    assert not day.contains(ms("2026-11-27 12:00"))


def test_day_ranges_may_run_over_the_weekend():
    assert parse_days(["sat-mon", "wed"]) == {5, 6, 0, 2}
