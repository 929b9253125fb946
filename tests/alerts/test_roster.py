"""People, rotas and escalation policies of one file: read, checked against each other, asked."""

import pytest

from alerts.policy.decision import Address, Priority, Target
from alerts.policy.escalation import Chain, Step
from alerts.policy.roster import Roster, parse
from alerts.yaml_block import load_yaml
from metrics.errors import ConfigError
from metrics.severity import Severity

TEXT = """
route: {receiver: desk}            # somebody else's section
people:
  ana:
    zone: Europe/Zurich
    channels:
      email: ana@desk.example
      pager:
  ben: {channels: {email: [ben@desk.example, ben@home.example]}}
rotas:
  desk:
    layers:
      - people: [ana]
        hours: {from: "08:00", to: "20:00"}
escalations:
  algos:
    severity: warning
    matchers: ['team="algo"', 'host=~"a.*"']
    steps: [{channels: [pager]}]
  all:
    steps:
      - {after: 0s, rotas: [desk]}
      - {after: 5m, people: [ben, ana], channels: [pager]}
    repeat: 2
    repeat_interval: 10m
"""
NOON, NIGHT = 1_704_110_400_000, 1_704_153_600_000
CHANNELS = ("email", "pager")


def roster(text: str = TEXT) -> Roster:
    return parse(load_yaml(text), "policy.yml")


def test_the_first_policy_that_fits_is_an_alerts_own():
    found = roster()
    algo = {"team": "algo", "host": "a1"}
    assert found.policy_for(algo, Severity.WARNING).name == "algos"
    assert found.policy_for(algo, Severity.EMERGENCY).name == "algos"
    assert found.policy_for({"team": "algo", "host": "b1"}, Severity.WARNING) is None
    assert found.policy_for({}, Severity.CRITICAL).name == "all"


def test_a_step_leads_to_whoever_is_on_duty_and_to_each_only_once():
    found = roster()
    first, second = found.escalations[1].chain.steps
    ana = (
        Address("email", priority=Priority.RISEN, target=Target("ana", ("ana@desk.example",))),
        Address("pager", priority=Priority.RISEN, target=Target("ana")),
    )
    assert found.addresses(first, NOON, (), CHANNELS) == ana
    told = found.addresses(second, NOON, (), CHANNELS)
    assert told[0] == Address("pager", priority=Priority.RISEN)
    assert told[1].target == Target("ben", ("ben@desk.example", "ben@home.example"))
    assert told[2:] == ana


def test_a_step_that_leads_to_nobody_goes_to_every_channel():
    found, everywhere = roster(), tuple(Address(name, priority=Priority.RISEN) for name in CHANNELS)
    first = found.escalations[1].chain.steps[0]
    assert found.addresses(first, NIGHT, (), CHANNELS) == everywhere
    assert Roster().addresses(first, NOON, (), CHANNELS) == everywhere
    assert found.addresses(first, NOON, (), ("webhook",)) == (Address("webhook", priority=Priority.RISEN),)


def test_a_chain_survives_json_and_says_what_follows():
    chain = roster().escalations[1].chain
    assert Chain.from_json(chain.to_json()) == chain
    assert str(chain.steps[1]) == "ben, ana, channel pager"
    seen, at = [], (0, 0)
    while at is not None:
        seen.append((*at, chain.wait_ms(*at)))
        at = chain.after(*at, insists=False)
    tenth = 600_000
    assert seen == [(0, 0, 0), (1, 0, 300_000), (0, 1, tenth), (1, 1, 300_000), (0, 2, tenth), (1, 2, 300_000)]
    assert chain.after(1, 2, insists=True) == (1, 3)
    assert chain.after(1, 3, insists=True) == (1, 4)
    assert chain.wait_ms(1, 3) == chain.wait_ms(1, 4) == tenth
    assert Chain((Step(0),), 0, 1000).after(0, 0, insists=False) is None


@pytest.mark.parametrize("text", ["", "people:\nrotas:\n"])
def test_a_file_without_the_sections_has_nobody(text: str):
    assert parse(load_yaml(text), "policy.yml") == Roster()


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("people: [ana]\n", "people: [eve]\n", "rotas: desk: there is no person 'eve' .there are: ana, ben"),
        ("rotas: [desk]", "rotas: [night]", "escalations: all: step 1: there is no rota 'night'"),
        ("people: [ben, ana]", "people: [bob]", "escalations: all: step 2: there is no person 'bob'"),
        ("channels: [pager]}]", "channels: [sms]}]", "escalations: algos: step 1: there is no channel 'sms'"),
        ("      pager:\n", "      phone:\n", "people: ana: there is no channel 'phone'"),
    ],
)
def test_what_is_named_must_be_there(before, after, words):
    assert before in TEXT
    with pytest.raises(ConfigError, match=f"policy.yml: {words}"):
        roster(TEXT.replace(before, after)).check(CHANNELS, "policy.yml")
    roster().check(CHANNELS, "policy.yml")


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("channels: {email: [ben@desk.example, ben@home.example]}", "channels: {}", "people.*ben.*names no channel"),
        ("severity: warning", "severity: bad", r"algos \(line 17\): severity: severity 'bad' is not one of"),
        ("after: 5m", "after: soon", "steps 2.*after: 'soon' is not a duration"),
        ("after: 0s, rotas: [desk]", "after: 1s", "steps 1.*names nobody"),
        ("repeat: 2", "repeat: many", "repeat: 'many' is not a whole number from 0 to 100"),
        ("repeat_interval: 10m", "repeat_interval: 10ms", "repeat_interval: 10ms is less than 1s"),
        ("host=~\"a.*\"", "host=~\"a(\"", "matchers: .*invalid regular expression"),
        ("'team=\"algo\"', ", "'team', ", "algos.*matchers: "),
        ("  all:\n", "  all of them:\n", "'all of them' is no name"),
        ("ana:\n    zone: Europe/Zurich", "ana:\n    zone: Moon/Base", r"ana \(line 5\): zone: time zone 'Moon/Base'"),
        ("people:\n  ana", "people: [x]\npersons:\n  ana", "people: must be a mapping"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(before, after, words):
    assert before in TEXT
    with pytest.raises(ConfigError, match=words):
        roster(TEXT.replace(before, after, 1))
