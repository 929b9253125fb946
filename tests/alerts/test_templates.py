"""Templates know the common part of Go's language and leave the rest standing."""

import pytest

from alerts.durations import parse_duration_s, show_duration
from alerts.templates import Facts, Template, humanize, humanize_1024

FACTS = Facts(0.91234, {"host": "a|b", "n": "7"}, "http://console")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("{{ $value }} {{.Value}} {{- $value -}} x", "0.91234 0.912340.91234x"),
        ("{{ $value | humanize }} {{ humanize $value }}", "912.3m 912.3m"),
        ("{{ $value | humanizePercentage }}", "91.23%"),
        ("{{ $value | humanizeDuration }}", "912.3ms"),
        ('{{ printf "%.2f|%%" $value }} {{ $value | printf "%.1f" }}', "0.91|% 0.9"),
        ('{{ $labels.host | toUpper }} {{ index $labels "host" }} {{ .Labels.host }}', "A|B a|b a|b"),
        ("{{ $labels.nothing }}", ""),
        ('{{ printf "%s and %%" $labels.host }} {{ printf "%q" $labels.n }}', 'a|b and % "7"'),
        ("{{ $externalURL }}/x", "http://console/x"),
        ('{{ "a|b" | toUpper }}', "A|B"),
        ("{{ unclosed", "{{ unclosed"),
    ],
)
def test_known_actions_are_rendered(text, shown):
    template = Template(text)
    assert template.render(FACTS) == shown
    assert template.unknown == ()


@pytest.mark.parametrize(
    "text",
    [
        "{{ query `up` }}",
        "{{ if $value }}",
        "{{ $value | reReplaceAll `a` `b` }}",
        "{{}}",
        '{{ printf "%d %d" $value }}',
    ],
)
def test_unknown_actions_are_left_standing_and_named(text):
    template = Template(f"before {text} after")
    assert template.render(FACTS) == f"before {text} after"
    assert template.unknown == (text,)


def test_a_value_is_never_taken_for_a_template():
    assert Template("{{ $labels.host }}").render(Facts(1, {"host": "{{ $value }}"})) == "{{ $value }}"


@pytest.mark.parametrize(
    ("value", "decimal", "binary", "duration"),
    [
        (0, "0", "0", "0s"),
        (1234567, "1.235M", "1.177Mi", "14d 6h 56m 7s"),
        (0.00012, "120u", "0.00012", "120us"),
        (8 * 2**30, "8.59G", "8Gi", "99420d 12h 56m 32s"),
        (-1500, "-1.5k", "-1.465Ki", "-25m 0s"),
        (float("nan"), "NaN", "NaN", "nan"),
        (float("inf"), "+Inf", "+Inf", "inf"),
    ],
)
def test_numbers_are_humanised(value, decimal, binary, duration):
    assert (humanize(value), humanize_1024(value), show_duration(value)) == (decimal, binary, duration)


@pytest.mark.parametrize(
    ("text", "seconds"), [("100ms", 0.1), ("1h30m", 5400), ("0", 0), ("0s", 0), ("0ms", 0), ("2d", 172800)]
)
def test_durations_are_prometheus_durations(text, seconds):
    assert parse_duration_s(text) == seconds


def test_a_wrong_duration_says_what_is_allowed():
    with pytest.raises(ValueError, match="such as 100ms, 30s"):
        parse_duration_s("5 minutes")
