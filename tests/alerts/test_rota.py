"""Who is on duty: turns by the calendar, right over changes of the clocks, with layers and overrides."""

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from alerts.policy.rota import DAY_MS, Override, Rota, parse_rotas
from alerts.yaml_block import load_yaml
from metrics.errors import ConfigError

ZONES = (
    "UTC", "Europe/London", "America/New_York", "America/St_Johns", "Asia/Kolkata", "Australia/Lord_Howe",
    "America/Sao_Paulo", "Pacific/Apia", "Africa/Cairo", "Asia/Beirut",
)  # fmt: skip
NAMES = ("ana", "ben", "cem", "dee")


def rota(zone: str = "Europe/London", **layer: str) -> Rota:
    keys = "\n".join(f"    {key}: {value}" for key, value in {"people": "[ana, ben]", **layer}.items())
    return parse_rotas(load_yaml(f"desk:\n  zone: {zone}\n  layers:\n  -\n{keys}\n"), "here: rotas")["desk"]


def ms(text: str, zone: str = "Europe/London", fold: int = 0) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp() * 1000)


def override(person: str, starts_ms: int, ends_ms: int, number: int = 1) -> Override:
    return Override(number, "desk", person, starts_ms, ends_ms, "ana", "", 0)


def test_turns_change_at_the_handover_by_local_time():
    desk = rota(handover="mon 09:00", start="2024-01-01")
    assert desk.who(ms("2024-01-01T08:59")) == "ben"  # whoever would have had the week before the first
    assert desk.who(ms("2024-01-01T09:00")) == "ana"
    assert desk.who(ms("2024-01-08T08:59")) == "ana"
    assert desk.who(ms("2024-01-08T09:00")) == "ben"
    # The clocks go forward on 2024-03-31: that week has 167 hours, and the handover stays at 09:00.
    assert desk.who(ms("2024-04-01T08:59")) == desk.who(ms("2024-03-25T09:00"))
    assert desk.who(ms("2024-04-01T09:00")) != desk.who(ms("2024-03-25T09:00"))


def test_a_turn_can_last_several_weeks():
    desk = rota(handover="wed 12:00", weeks="2", start="2024-01-05", people="[ana, ben, cem]")
    days = [ms("2024-01-03T12:00") + week * 7 * DAY_MS for week in range(7)]
    assert [desk.who(day) for day in days] == ["ana", "ana", "ben", "ben", "cem", "cem", "ana"]


def test_a_later_layer_covers_the_earlier_in_its_hours():
    text = """
desk:
  zone: Europe/London
  layers:
    - people: ana
    - people: [cem]
      hours: {days: [mon-fri], from: "18:00", to: "08:00"}
"""
    desk = parse_rotas(load_yaml(text), "rotas")["desk"]
    assert desk.who(ms("2024-05-03T17:59")) == "ana"  # a Friday
    assert desk.who(ms("2024-05-03T18:00")) == "cem"
    assert desk.who(ms("2024-05-04T07:59")) == "cem"  # Friday's stretch
    assert desk.who(ms("2024-05-04T08:00")) == "ana"
    assert desk.who(ms("2024-05-04T19:00")) == "ana"  # no stretch begins on a Saturday
    assert desk.people == {"ana", "cem"}


def test_outside_every_layers_hours_nobody_is_on_duty():
    desk = rota(hours='{from: "09:00", to: "17:00"}')
    assert desk.who(ms("2024-05-01T08:59")) is None
    assert desk.who(ms("2024-05-01T09:00")) is not None
    begun = desk.duties(ms("2024-05-01T00:00"), ms("2024-05-02T00:00"))
    assert [(one.person is None, one.begins_ms) for one in begun] == [
        (True, ms("2024-05-01T00:00")),
        (False, ms("2024-05-01T09:00")),
        (True, ms("2024-05-01T17:00")),
    ]


def test_the_newest_override_counts_while_it_lasts():
    desk, begin = rota(handover="mon 09:00"), ms("2024-01-03T12:00")
    hour = 3_600_000
    standing_in = [override("cem", begin, begin + 4 * hour), override("dee", begin + hour, begin + 2 * hour, 2)]
    shown = [(one.person, one.override) for one in desk.duties(begin - hour, begin + 5 * hour, standing_in)]
    assert shown == [("ana", None), ("cem", 1), ("dee", 2), ("cem", 1), ("ana", None)]
    other = Override(3, "other", "eve", 0, 2**60, "", "", 0)
    assert desk.who(begin, [other]) == "ana"


def test_a_handover_in_the_hour_that_comes_twice_is_in_its_first():
    desk = rota("Europe/London", handover="sun 01:30", start="2024-01-01")
    first, second = ms("2024-10-27T01:30"), ms("2024-10-27T01:30", fold=1)
    assert second - first == 3_600_000
    assert desk.who(first - 1) != desk.who(first) == desk.who(second)


def test_a_handover_in_the_hour_that_is_left_out_comes_an_hour_later():
    desk = rota("Europe/London", handover="sun 01:30", start="2024-01-01")
    at = round(datetime(2024, 3, 31, 1, 30, tzinfo=UTC).timestamp() * 1000)  # 02:30 of the new time
    assert desk.who(at - 1) != desk.who(at)


@given(
    zone=st.sampled_from(ZONES),
    weekday=st.sampled_from(["mon", "tue", "wed", "thu", "fri", "sat", "sun"]),
    minute=st.integers(0, 1439),
    weeks=st.integers(1, 3),
    people=st.integers(1, 4),
    day=st.integers(0, 365 * 25),
    offset=st.integers(0, DAY_MS - 1),
)
@settings(max_examples=150, deadline=None)
def test_turns_follow_each_other_in_order_without_gap_over_any_change_of_the_clocks(
    zone, weekday, minute, weeks, people, day, offset
):
    clock = f"{minute // 60:02d}:{minute % 60:02d}"
    names = NAMES[:people]
    desk = rota(zone, handover=f"{weekday} {clock}", weeks=str(weeks), people=f"[{', '.join(names)}]")
    begin = round(datetime(2003, 1, 1, tzinfo=UTC).timestamp() * 1000) + day * DAY_MS + offset
    duties = desk.duties(begin, begin + 60 * DAY_MS)
    assert (duties[0].begins_ms, duties[-1].ends_ms) == (begin, begin + 60 * DAY_MS)
    for one, following in itertools.pairwise(duties):
        assert one.ends_ms == following.begins_ms
        assert names[(names.index(one.person) + 1) % people] == following.person
        local = datetime.fromtimestamp(following.begins_ms / 1000, desk.zone)
        nominal = local.replace(tzinfo=None, hour=minute // 60, minute=minute % 60, second=0, microsecond=0)
        late = abs(local.replace(tzinfo=None) - nominal)
        assert late in (timedelta(0), timedelta(minutes=30), timedelta(hours=1)) or zone == "Pacific/Apia"
    for one in duties[1:-1]:  # whole turns: as many weeks, give or take the change of the clocks (Apia: a day)
        assert abs(one.ends_ms - one.begins_ms - weeks * 7 * DAY_MS) <= (
            DAY_MS if zone == "Pacific/Apia" else 3_600_000
        )
    for one in duties:
        assert desk.who(one.begins_ms) == desk.who(one.ends_ms - 1) == one.person


@given(
    zone=st.sampled_from(ZONES),
    begin=st.integers(0, 1439),
    end=st.integers(0, 1439),
    days=st.sampled_from(["[mon-fri]", "[sat, sun]", "[wed]", "[mon-sun]"]),
    day=st.integers(0, 365 * 25),
    lasts=st.integers(0, 3 * DAY_MS),
)
@settings(max_examples=100, deadline=None)
def test_the_list_of_duties_says_the_same_as_asking_for_each_instant(zone, begin, end, days, day, lasts):
    hours = f'{{days: {days}, from: "{begin // 60:02d}:{begin % 60:02d}", to: "{end // 60:02d}:{end % 60:02d}"}}'
    desk = rota(zone, hours=hours, handover="thu 02:30")
    first = round(datetime(2003, 1, 1, tzinfo=UTC).timestamp() * 1000) + day * DAY_MS
    standing_in = [override("cem", first + DAY_MS, first + DAY_MS + lasts)]
    duties = desk.duties(first, first + 9 * DAY_MS, standing_in)
    for step in range(9 * 48):
        at = first + step * 1_800_000
        (mine,) = [one for one in duties if one.begins_ms <= at < one.ends_ms]
        assert desk.who(at, standing_in) == mine.person


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ({"people": "[]"}, r"layers 1 \(line 5\): people is missing"),
        ({"handover": "someday"}, "handover: 'someday' is not a day and a time such as"),
        ({"weeks": "0"}, "weeks: '0' is not a whole number from 1 to 52"),
        ({"start": "soon"}, "start: 'soon' is not a date"),
        ({"hours": "{from: '9', to: '10:00'}"}, "'9' is not a time of day"),
        ({"turn": "x"}, "unknown key 'turn'; allowed are people, handover"),
    ],
)
def test_what_is_wrong_in_a_rota_is_said_with_its_place(layer, words):
    with pytest.raises(ConfigError, match=words):
        rota(**layer)


def test_a_time_zone_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match=r"rotas.*desk.*zone: time zone 'Europe/Nowhere' is not known"):
        rota("Europe/Nowhere")
