"""The federation file: strict to read, kind to edit, equal for equal content."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp.errors import InvalidArgument
from spark_mpc.federation_file import FederationFile, Peer, add_party, differences, split_address
from spark_mpc.identity import Identity, fingerprint

NAMES = ("insurer_a", "insurer_b", "insurer_c", "insurer_d")
IDENTITIES = {name: Identity.create(name) for name in NAMES}
STRANGER = Identity.create("stranger")
STRANGER_AS_A = Identity.create("insurer_a")
HEAD = '[federation]\nname = "insurers"\n'


def stanza(name: str, port: int, *certificates: str) -> str:
    pems = ", ".join(f'"""\n{pem}"""' for pem in certificates or (IDENTITIES[name].certificate,))
    return f'\n[party.{name}]\naddress = "127.0.0.1:{port}"\ncertificates = [{pems}]\n'


def text(head: str = HEAD, *stanzas: str) -> str:
    return head + "".join(stanzas or (stanza("insurer_b", 7002), stanza("insurer_a", 7001)))


BAD_COLLUDERS = ("0", "2", "true", '"1"', "1.0")
BAD_SECONDS = ("0", "-1", "nan", "inf", "true", '"1"')
TWICE = [IDENTITIES["insurer_b"].certificate] * 2
FIRST = stanza("insurer_a", 7001)


REP3 = HEAD + 'protocol = "rep3"\n'
FOUR = tuple(stanza(name, port) for port, name in enumerate(("insurer_a", "insurer_b", "insurer_c", "insurer_d"), 7001))
BAD_COMPUTE = (
    ('["insurer_a", "insurer_b"]', "three different parties"),
    ('["insurer_a", "insurer_b", "insurer_b"]', "three different parties"),
    ('["insurer_a", "insurer_b", "insurer_x"]', "three different parties"),
    ('"insurer_a"', "list of three"),
    ("[1, 2, 3]", "list of three"),
)


def test_three_parties_compute_under_rep3_and_one_may_be_corrupt() -> None:
    file = FederationFile.parse(text(REP3, *FOUR[:3]))
    assert (file.protocol, file.compute, file.t) == ("rep3", ("insurer_a", "insurer_b", "insurer_c"), 1)
    chosen = FederationFile.parse(text(REP3 + 'compute = ["insurer_d", "insurer_a", "insurer_c"]\n', *FOUR))
    assert chosen.compute == ("insurer_a", "insurer_c", "insurer_d")
    assert chosen.public()["compute"] == list(chosen.compute)


def test_a_file_with_two_parties_is_enough() -> None:
    file = FederationFile.parse(text())
    assert (file.name, file.protocol, file.t) == ("insurers", "additive", 1)
    assert (file.timeout_seconds, file.rendezvous_seconds) == (60, 300)
    assert [peer.name for peer in file.parties] == ["insurer_a", "insurer_b"]
    assert file.peer("insurer_b").address == "127.0.0.1:7002"


def test_all_but_one_may_collude_unless_the_file_says_less() -> None:
    three = (stanza("insurer_a", 7001), stanza("insurer_b", 7002), stanza("insurer_c", 7003))
    assert FederationFile.parse(text(HEAD, *three)).t == 2
    assert FederationFile.parse(text(HEAD + "colluders = 1\n", *three)).t == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "table \\[federation\\]"),
        ("federation = 3", "table \\[federation\\]"),
        ("[federation\n", "correct the TOML"),
        (text("[federation]\n"), "give the federation a name"),
        (text('[federation]\nname = "In Surers"\n'), "party name looks like"),
        (text(HEAD + "timeout = 3\n"), "unknown|known are"),
        (text(HEAD) + "[extra]\n", "known are federation, party"),
        (text(HEAD) + "[party.insurer_c]\nport = 3\n", "known are address, certificates"),
        (text(HEAD + 'protocol = "shamir"\n'), "this release knows additive, rep3"),
        (text(HEAD + "protocol = [1]\n"), "this release knows additive"),
        (text(HEAD + 'protocol = "rep3"\n'), "three different parties"),
        (text(HEAD + 'compute = ["insurer_a"]\n'), "belongs to protocol"),
        *[(text(REP3 + f"compute = {names}\n", *FOUR), reason) for names, reason in BAD_COMPUTE],
        (text(REP3, *FOUR), "three different parties"),
        (text(REP3 + "colluders = 2\n", *FOUR[:3]), "whole number from 1 to 1"),
        *[(text(HEAD + f"colluders = {value}\n"), "whole number from 1 to 1") for value in BAD_COLLUDERS],
        *[(text(HEAD + f"timeout_seconds = {value}\n"), "seconds above 0") for value in BAD_SECONDS],
        (text(HEAD + "rendezvous_seconds = 0\n"), "seconds above 0"),
        (HEAD, "at least two parties"),
        (text(HEAD, stanza("insurer_a", 7001)), "at least two parties"),
        (text(HEAD, FIRST, stanza("insurer_a", 7002)), "correct the TOML"),
        (text(HEAD, FIRST, stanza("insurer_b", 7001)), "no two parties share one"),
        (text(HEAD, FIRST, "[party]\ninsurer_b = 3\n"), "table \\[insurer_b\\]"),
        (text(HEAD, FIRST, stanza("insurer_b", 7002, STRANGER.certificate)), "names insurer_b"),
        (text(HEAD, FIRST, stanza("insurer_b", 7002, "junk")), "not a self-signed"),
        (text(HEAD, FIRST, stanza("insurer_b", 70020)), "address looks like"),
        (text(HEAD, FIRST, "[party.insurer_b]\ncertificates = []\n"), "give one, such as"),
        (text(HEAD, FIRST, '[party.insurer_b]\naddress = "h:1"\n'), "list of certificates"),
        (text(HEAD, FIRST, '[party.insurer_b]\naddress = "h:1"\ncertificates = [1]\n'), "list of"),
        (text(HEAD, FIRST, '[party.insurer_b]\naddress = "h:1"\ncertificates = []\n'), "at least one"),
        (text(HEAD, FIRST, '[party."B B"]\naddress = "h:1"\ncertificates = []\n'), "party name"),
        (
            text(HEAD, FIRST, stanza("insurer_b", 7002, *TWICE)),
            "none is listed twice",
        ),
    ],
)
def test_what_is_not_as_it_should_be_is_refused(content: str, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        FederationFile.parse(content)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="no such file"):
        FederationFile.load(tmp_path / "federation.toml")
    (tmp_path / "federation.toml").write_bytes(b"\xff")
    with pytest.raises(InvalidArgument, match="UTF-8"):
        FederationFile.load(tmp_path / "federation.toml")


def test_an_unknown_party_is_named_with_those_there_are() -> None:
    with pytest.raises(InvalidArgument, match="me='insurer_d': the parties are insurer_a, insurer_b"):
        FederationFile.parse(text()).peer("insurer_d")


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [("127.0.0.1:1", "127.0.0.1", 1), ("a.example.org:65535", "a.example.org", 65535), ("[::1]:7001", "::1", 7001)],
)
def test_addresses(address: str, host: str, port: int) -> None:
    assert split_address(address) == (host, port)


@pytest.mark.parametrize(
    "address",
    ["", "host", "host:", ":7001", "host:0", "host:65536", "host:+1", "host:1\n", "ho st:1", "::1:7001", "h:１", 3],
)
def test_bad_addresses(address: object) -> None:
    with pytest.raises(InvalidArgument, match="address looks like"):
        split_address(address)


def test_the_digest_depends_on_the_content_and_on_nothing_else() -> None:
    file = FederationFile.parse(text())
    reordered = text(
        "# a comment\n" + HEAD + "timeout_seconds = 60.0\n", stanza("insurer_a", 7001), stanza("insurer_b", 7002)
    )
    assert FederationFile.parse(reordered).digest() == file.digest()
    assert replace(file, colluders=1).digest() == file.digest()
    rotated = Peer("insurer_b", "127.0.0.1:7002", (Identity.create("insurer_b").certificate,))
    others = [
        replace(file, name="others"),
        replace(file, timeout_seconds=30),
        replace(file, rendezvous_seconds=30),
        replace(file, parties=(file.parties[0], replace(file.parties[1], address="127.0.0.1:7003"))),
        replace(file, parties=(file.parties[0], rotated)),
        FederationFile.parse(text(HEAD, *(stanza(name, 7001 + i) for i, name in enumerate(NAMES)))),
    ]
    assert len({other.digest() for other in (file, *others)}) == 7


def test_differences_are_named_one_by_one() -> None:
    mine = FederationFile.parse(text())
    other = Identity.create("insurer_b")
    peers = (mine.parties[0], Peer("insurer_b", "127.0.0.1:9", (other.certificate,)))
    theirs = replace(mine, timeout_seconds=30, parties=peers)
    assert differences(mine.public(), mine.public(), "insurer_b") == []
    assert differences(mine.public(), theirs.public(), "insurer_b") == [
        'party.insurer_b.address: "127.0.0.1:7002" here, "127.0.0.1:9" at insurer_b',
        f'party.insurer_b.certificates[0]: "{fingerprint(IDENTITIES["insurer_b"].certificate)}" here, '
        f'"{fingerprint(other.certificate)}" at insurer_b',
        "timeout_seconds: 60.0 here, 30.0 at insurer_b",
    ]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=4))
def test_differences_take_anything_from_outside(theirs: dict[str, object]) -> None:
    mine = FederationFile.parse(text()).public()
    assert differences(mine, theirs, "insurer_b")
    assert differences(theirs, theirs, "insurer_b") == []


def test_parties_are_added_and_comments_stay(tmp_path: Path) -> None:
    path = tmp_path / "federation.toml"
    add_party(path, Peer("insurer_a", "127.0.0.1:7001", (IDENTITIES["insurer_a"].certificate,)), federation="insurers")
    path.write_text(path.read_text().replace("[federation]", "# our rules\n[federation]"))
    add_party(path, Peer("insurer_b", "127.0.0.1:7002", (IDENTITIES["insurer_b"].certificate,)))
    assert "# our rules" in path.read_text()
    assert FederationFile.load(path).digest() == FederationFile.parse(text()).digest()


def test_a_second_certificate_of_a_party_is_added_for_rotation(tmp_path: Path) -> None:
    path = tmp_path / "federation.toml"
    path.write_text(text())
    new = Identity.create("insurer_a")
    for _ in range(2):  # adding it again changes nothing
        add_party(path, Peer("insurer_a", "127.0.0.1:7001", (new.certificate,)))
    assert FederationFile.load(path).peer("insurer_a").certificates == (
        IDENTITIES["insurer_a"].certificate,
        new.certificate,
    )


def test_what_would_spoil_the_file_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "federation.toml"
    path.write_text(text())
    for peer, reason in (
        (Peer("insurer_a", "127.0.0.1:7009", (STRANGER_AS_A.certificate,)), "edit it there"),
        (Peer("insurer_c", "127.0.0.1:7001", (IDENTITIES["insurer_c"].certificate,)), "no two parties"),
    ):
        with pytest.raises(InvalidArgument, match=reason):
            add_party(path, peer)
    assert path.read_text() == text()
    path.write_text("not TOML")
    with pytest.raises(InvalidArgument, match="correct the TOML"):
        add_party(path, Peer("insurer_c", "127.0.0.1:7003", (IDENTITIES["insurer_c"].certificate,)))
