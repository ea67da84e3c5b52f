"""An owner's policy: what is not listed is refused, and every refusal spells out the stanza that would allow it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from dp.errors import InvalidArgument, SparkMpcError
from lake.errors import DisclosureRefused
from lake.policy import Disclosure, Policy

ONE, OTHER = "5f3ac0" + "0" * 58, "7" * 64
LAST_DAY = date(2026, 12, 31)
TEXT = f"""
# what this owner lets be opened without noise
[disclosure.exposure-2026]
program = "{ONE}"
recipients = ["insurer_a", "insurer_b"]
until = 2026-12-31
reason = "contract 12"

[disclosure.size]
program = "{OTHER}"
recipients = ["insurer_a"]
"""


@pytest.fixture
def policy() -> Policy:
    return Policy.parse(TEXT)


def refused(step: Callable[[], None]) -> DisclosureRefused:
    with pytest.raises(DisclosureRefused) as caught:
        step()
    return caught.value


def spelled_out(refusal: DisclosureRefused) -> Policy:
    """The policy that a remedy spells out."""
    return Policy.parse(refusal.remedy.partition("\n\n")[2])


# --- reading


def test_a_policy_is_read(policy: Policy) -> None:
    assert policy == Policy(
        (
            Disclosure("exposure-2026", ONE, ("insurer_a", "insurer_b"), LAST_DAY, "contract 12"),
            Disclosure("size", OTHER, ("insurer_a",)),
        )
    )


def test_load_reads_a_file(tmp_path: Path, policy: Policy) -> None:
    (tmp_path / "policy.toml").write_text(TEXT, encoding="utf-8")
    assert Policy.load(tmp_path / "policy.toml") == Policy.load(str(tmp_path / "policy.toml")) == policy


def test_an_empty_file_allows_nothing() -> None:
    assert Policy.parse("# nothing yet\n") == Policy.parse("[disclosure]\n") == Policy()


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"policy=.*missing\.toml.*No such file.*give the path"):
        Policy.load(tmp_path / "missing.toml")
    with pytest.raises(InvalidArgument, match=r"policy=.*cannot be read"):
        Policy.load(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'reason = "caf\xe9"')
    with pytest.raises(InvalidArgument, match="UTF-8"):
        Policy.load(tmp_path / "latin.toml")


@pytest.mark.parametrize("text", ["[disclosure", f"{TEXT}\n[disclosure.size]\n"])
def test_malformed_toml_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"policy file=.*correct the TOML"):
        Policy.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[disclosures.x]", r"the policy file=\['disclosures'\]: known are disclosure"),
        ("disclosure = 1", r"disclosure=1: .*write \[disclosure\.exposure-2026\]"),
        ("disclosure = [1]", r"disclosure=\[1\]: "),
        ("[[disclosure]]", r"disclosure=\[\{\}\]: "),
        ("disclosure.x = 1", r"disclosure\.x=1: "),
        ("[disclosure.X]", "disclosure='X': .*looks like"),
        ('[disclosure.""]', "disclosure='': .*looks like"),
        ('[disclosure."a b"]', "disclosure='a b': .*looks like"),
        (f"[disclosure.{'a' * 65}]", "looks like"),
    ],
)
def test_other_shapes_are_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Policy.parse(text)


@pytest.mark.parametrize("name", ["a", "0", "-", "_", "exposure-2026", "a" * 64])
def test_names(name: str) -> None:
    text = f'[disclosure.{name}]\nprogram = "{ONE}"\nrecipients = ["a"]'
    assert Policy.parse(text).disclosures[0].name == name


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            {"recipient": '["insurer_a"]'},
            r"\[disclosure\.x\]=\['recipient'\]: known are data_version, program, reason, recip.*until",
        ),
        ({"sub.key": "1"}, r"\[disclosure\.x\]=\['sub'\]"),
        ({"program": None}, r"disclosure\.x\.program=None: .*as its explain\(\) prints it"),
        ({"program": "1"}, r"disclosure\.x\.program=1: "),
        ({"program": f'"{ONE[1:]}"'}, r"disclosure\.x\.program='f3ac.*64 hex digits"),
        ({"program": f'"{ONE.upper()}"'}, r"small letters"),
        ({"program": f'"{ONE}\\n"'}, r"disclosure\.x\.program="),
        ({"program": '"' + "g" * 64 + '"'}, r"disclosure\.x\.program="),
        ({"recipients": None}, r"disclosure\.x\.recipients=None: .*at least one party"),
        ({"recipients": '"insurer_a"'}, r"disclosure\.x\.recipients='insurer_a': give a list"),
        ({"recipients": "[]"}, r"disclosure\.x\.recipients=\[\]: .*at least one"),
        ({"recipients": '["insurer_a", 1]'}, r"disclosure\.x\.recipients="),
        ({"recipients": '[""]'}, r"disclosure\.x\.recipients="),
        ({"recipients": "{ a = 1 }"}, r"disclosure\.x\.recipients="),
        ({"until": '"2026-12-31"'}, r"disclosure\.x\.until='2026-12-31': .*without quotes"),
        ({"until": "2026-12-31T00:00:00Z"}, r"disclosure\.x\.until=.*without a time"),
        ({"until": "2026-12-31T00:00:00"}, r"disclosure\.x\.until=.*without a time"),
        ({"until": "2026"}, r"disclosure\.x\.until=2026: "),
        ({"reason": "12"}, r"disclosure\.x\.reason=12: give a text"),
    ],
)
def test_unknown_keys_missing_keys_and_other_types_are_refused(lines: dict[str, str | None], message: str) -> None:
    stanza = {"program": f'"{ONE}"', "recipients": '["insurer_a"]', **lines}
    text = "[disclosure.x]\n" + "\n".join(f"{key} = {value}" for key, value in stanza.items() if value is not None)
    with pytest.raises(InvalidArgument, match=message):
        Policy.parse(text)


def test_a_name_stands_there_once() -> None:
    one = Disclosure("x", ONE, ("a",))
    with pytest.raises(InvalidArgument, match=r"disclosures=\['x'\]"):
        Policy((one, Disclosure("x", OTHER, ("a",))))


@pytest.mark.parametrize("reason", ["", 'a "quoted" one\\', "two\nlines"])
@pytest.mark.parametrize("until", [None, LAST_DAY])
def test_a_stanza_reads_back(reason: str, until: date | None) -> None:
    one = Disclosure("exposure-2026", ONE, ("insurer_a", 'odd "name"'), until, reason)
    assert Policy.parse(one.stanza()) == Policy((one,))


# --- checking


@pytest.mark.parametrize("recipients", [["insurer_a"], ["insurer_b"], ("insurer_b", "insurer_a")])
@pytest.mark.parametrize("today", [date(1970, 1, 1), LAST_DAY - timedelta(days=1), LAST_DAY])
def test_what_is_listed_is_allowed_until_its_last_day(policy: Policy, recipients: list[str], today: date) -> None:
    policy.check("exposure-2026", program=ONE, recipients=recipients, today=today)


def test_without_a_last_day_it_does_not_end(policy: Policy) -> None:
    policy.check("size", program=OTHER, recipients=["insurer_a"], today=date.max)
    policy.check("size", program=OTHER, recipients=["insurer_a"])


def test_today_is_the_day_in_utc() -> None:
    first = datetime.now(UTC).date()
    today = Policy((Disclosure("x", ONE, ("a",), until=first + timedelta(days=1)),))
    today.check("x", program=ONE, recipients=["a"])
    yesterday = Policy((Disclosure("x", ONE, ("a",), until=first - timedelta(days=1)),))
    refused(lambda: yesterday.check("x", program=ONE, recipients=["a"]))


def test_after_the_last_day_it_is_refused(policy: Policy) -> None:
    today = date(2027, 1, 1)

    def check(policy: Policy) -> None:
        policy.check("exposure-2026", program=ONE, recipients=["insurer_a"], today=today)

    refusal = refused(lambda: check(policy))
    assert "it ended on 2026-12-31, and today is 2027-01-01" in str(refusal)
    assert "until = 2027-01-01" in refusal.remedy
    check(spelled_out(refusal))


def test_a_listing_may_be_good_for_one_version_of_the_table() -> None:
    one = Policy((Disclosure("x", ONE, ("a",), data_version="t@1"),))

    def check(policy: Policy, version: str) -> None:
        policy.check("x", program=ONE, recipients=["a"], data_version=version)

    check(one, "t@1")
    for version in ("t@2", "u@1", ""):
        refusal = refused(lambda version=version: check(one, version))
        assert "for version t@1" in refusal.problem
    check(spelled_out(refused(lambda: check(one, "t@2"))), "t@2")
    check(Policy((Disclosure("x", ONE, ("a",)),)), "t@2")  # named none: good for all
    asked = spelled_out(refused(lambda: check(Policy(), "t@3")))
    assert asked.disclosures[0].data_version == "t@3"  # what is spelled out is as narrow as what was asked
    refused(lambda: check(asked, "t@4"))


def test_another_program_is_refused_and_both_are_shown(policy: Policy) -> None:
    def check(policy: Policy) -> None:
        policy.check("exposure-2026", program=OTHER, recipients=["insurer_b"], today=LAST_DAY)

    refusal = refused(lambda: check(policy))
    assert f"it is for program {ONE}, and this is program {OTHER}" in str(refusal)
    assert spelled_out(refusal).disclosures == (
        Disclosure("exposure-2026", OTHER, ("insurer_a", "insurer_b"), LAST_DAY, "contract 12"),
    )
    check(spelled_out(refusal))


@pytest.mark.parametrize("recipients", [["insurer_c"], ["insurer_a", "insurer_c"], ["insurer_c", "insurer_a"]])
def test_a_recipient_who_is_not_listed_is_refused(policy: Policy, recipients: list[str]) -> None:
    def check(policy: Policy) -> None:
        policy.check("exposure-2026", program=ONE, recipients=recipients, today=LAST_DAY)

    refusal = refused(lambda: check(policy))
    assert "it is for insurer_a, insurer_b, and not for insurer_c;" in str(refusal)
    assert spelled_out(refusal).disclosures[0].recipients == ("insurer_a", "insurer_b", "insurer_c")
    check(spelled_out(refusal))


def test_all_that_is_not_allowed_is_named_at_once(policy: Policy) -> None:
    today = date(2027, 1, 1)
    refusal = refused(lambda: policy.check("exposure-2026", program=OTHER, recipients=["insurer_c"], today=today))
    assert refusal.name == "exposure-2026"
    assert all(text in refusal.problem for text in (ONE, OTHER, "not for insurer_c", "it ended on"))
    spelled_out(refusal).check("exposure-2026", program=OTHER, recipients=["insurer_c"], today=today)


def test_another_name_is_refused_with_the_stanza_to_add(policy: Policy) -> None:
    refusal = refused(lambda: policy.check("exposure-2027", program=ONE, recipients=["insurer_a"]))
    assert isinstance(refusal, SparkMpcError)
    assert str(refusal) == (
        "disclosure 'exposure-2027': this owner's policy does not list it, only exposure-2026, size;"
        " if this owner agrees to an opening without noise, let the policy file say:\n\n"
        f'[disclosure.exposure-2027]\nprogram = "{ONE}"\nrecipients = ["insurer_a"]\n'
    )


def test_an_empty_policy_refuses_everything_and_says_what_to_give() -> None:
    refusal = refused(lambda: Policy().check("exposure-2026", program=ONE, recipients=["insurer_a"]))
    assert "this owner's policy lists none" in refusal.problem
    assert "give policy= with a file that says:" in refusal.remedy
    spelled_out(refusal).check("exposure-2026", program=ONE, recipients=["insurer_a"])


@pytest.mark.parametrize(
    ("name", "program", "recipients"),
    [
        ("Exposure", ONE, ["insurer_a"]),
        ("", ONE, ["insurer_a"]),
        ("exposure-2026", ONE[:-1], ["insurer_a"]),
        ("exposure-2026", ONE, []),  # nobody is not a subset of the listed ones
        ("exposure-2026", ONE, "insurer_a"),
        ("exposure-2026", ONE, [b"insurer_a"]),
    ],
)
def test_what_no_policy_could_list_is_a_bad_argument(
    policy: Policy, name: str, program: str, recipients: list[str]
) -> None:
    with pytest.raises(InvalidArgument):
        policy.check(name, program=program, recipients=recipients, today=LAST_DAY)
