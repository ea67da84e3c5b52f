"""Keys and certificates: what is written, what is refused, what is never shown."""

from __future__ import annotations

import datetime
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from dp.errors import InvalidArgument
from spark_mpc.errors import SignatureRefused, WireError
from spark_mpc.identity import (
    AttemptKey,
    Identity,
    certificate_name,
    derive,
    fingerprint,
    party_name,
    read_certificate,
    verify,
)


@pytest.fixture(scope="module")
def identity() -> Identity:
    return Identity.create("insurer_a", valid_days=30)


def certificate(
    names: list[x509.GeneralName], *, authority: bool = False, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "insurer_a")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if authority:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def test_the_certificate_names_the_party_for_the_days_asked(identity: Identity) -> None:
    parsed = read_certificate(identity.certificate)
    assert certificate_name(parsed) == "insurer_a"
    left = parsed.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(days=29, hours=23) < left <= datetime.timedelta(days=30)
    assert parsed.not_valid_before_utc < datetime.datetime.now(datetime.UTC)


def test_what_is_saved_is_loaded_and_the_key_is_the_owners_alone(identity: Identity, tmp_path: Path) -> None:
    identity.save(tmp_path)
    loaded = Identity.load(tmp_path, "insurer_a")
    assert loaded.certificate == identity.certificate
    verify(identity.certificate, loaded.sign(b"data"), b"data")
    assert stat.S_IMODE((tmp_path / "insurer_a.key").stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["insurer_a.crt", "insurer_a.key"]


@pytest.mark.parametrize("present", ["insurer_a.key", "insurer_a.crt"])
def test_nothing_is_overwritten(identity: Identity, tmp_path: Path, present: str) -> None:
    (tmp_path / present).write_text("precious")
    with pytest.raises(InvalidArgument, match="not overwritten"):
        identity.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [present]
    assert (tmp_path / present).read_text() == "precious"


def test_keys_that_cannot_be_used_are_refused(identity: Identity, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="no such file"):
        Identity.load(tmp_path, "insurer_a")
    identity.save(tmp_path)
    key = tmp_path / "insurer_a.key"
    key.chmod(0o640)
    with pytest.raises(InvalidArgument, match="others may read it"):
        Identity.load(tmp_path, "insurer_a")
    key.chmod(0o600)
    with pytest.raises(InvalidArgument, match="is the certificate of 'insurer_a'"):
        Identity.load_key(key, "insurer_b")
    key.write_bytes(Identity.create("insurer_a").key_pem(serialization.NoEncryption()))
    with pytest.raises(InvalidArgument, match="does not belong to"):
        Identity.load(tmp_path, "insurer_a")
    key.write_text("not a key")
    with pytest.raises(InvalidArgument, match="not an unencrypted private key"):
        Identity.load(tmp_path, "insurer_a")


def test_no_text_shows_the_key(identity: Identity) -> None:
    secret = identity.key.private_numbers().private_value
    attempt = AttemptKey()
    shown = f"{identity!r} {identity} {attempt!r} {attempt}"
    assert "insurer_a" in shown
    assert "PRIVATE" not in shown
    assert str(secret) not in shown
    assert f"{secret:x}" not in shown
    assert attempt._private.private_bytes_raw().hex() not in shown


def bare_signature(identity: Identity, data: bytes) -> bytes:
    """In this library's encoding, without its context."""
    r, s = decode_dss_signature(identity.key.sign(data, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def test_signatures_hold_for_the_data_and_the_certificate_only(identity: Identity) -> None:
    signature = identity.sign(b"plan")
    verify(identity.certificate, signature, b"plan")
    other = Identity.create("insurer_a")
    for pem, signed, data in (
        (identity.certificate, signature, b"another plan"),
        (other.certificate, signature, b"plan"),
        (identity.certificate, signature[:-1] + bytes([signature[-1] ^ 1]), b"plan"),
        (identity.certificate, b"", b"plan"),
        # A bare ECDSA signature of the data, as another protocol would make it.
        (identity.certificate, bare_signature(identity, b"plan"), b"plan"),
    ):
        with pytest.raises(SignatureRefused):
            verify(pem, signed, data)


def test_certificates_that_are_no_partys_are_refused(identity: Identity) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    dns = [x509.DNSName("insurer_a")]
    assert certificate_name(read_certificate(certificate(dns, key=key))) == "insurer_a"
    tampered = identity.certificate.replace("MII", "MIJ", 1)
    refused = {
        "": "not a self-signed",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n": "not a self-signed",
        "größe": "not a self-signed",
        tampered: "not a self-signed",
        certificate(dns, key=ec.generate_private_key(ec.SECP384R1())): "P-256",
        certificate(dns, key=rsa.generate_private_key(65537, 2048)): "P-256",
        certificate(dns, authority=True, key=key): "authority",
        certificate([], key=key): "names no party",
        certificate([*dns, x509.DNSName("b")], key=key): "names no party",
        certificate([x509.DNSName("Insurer A")], key=key): "party name looks like",
        certificate([x509.RFC822Name("a@example.org")], key=key): "party name looks like",
    }
    for pem, reason in refused.items():
        with pytest.raises(InvalidArgument, match=reason):
            read_certificate(pem)


def test_a_certificate_issued_by_another_key_is_refused(identity: Identity) -> None:
    parsed = read_certificate(identity.certificate)
    now = datetime.datetime.now(datetime.UTC)
    forged = x509.CertificateBuilder(
        parsed.subject,
        parsed.subject,
        ec.generate_private_key(ec.SECP256R1()).public_key(),
        1,
        now,
        now + datetime.timedelta(days=1),
    ).add_extension(x509.SubjectAlternativeName([x509.DNSName("insurer_a")]), critical=False)
    pem = forged.sign(identity.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    with pytest.raises(InvalidArgument, match="not a self-signed"):
        read_certificate(pem)


def test_fingerprints_tell_certificates_apart(identity: Identity) -> None:
    assert fingerprint(identity.certificate) == fingerprint("\n" + identity.certificate + "\n")
    assert fingerprint(identity.certificate) != fingerprint(Identity.create("insurer_a").certificate)


@pytest.mark.parametrize("name", ["a", "insurer_a", "insurer-2", "a" * 63])
def test_names_that_are_accepted(name: str) -> None:
    assert party_name(name) == name
    assert certificate_name(read_certificate(Identity.create(name).certificate)) == name


@pytest.mark.parametrize(
    "name", ["", "A", "1a", "_a", "a b", "a.b", "a/b", "../a", "a\n", "é", "a" * 64, None, 3, ["a"]]
)
def test_names_that_are_refused(name: object) -> None:
    with pytest.raises(InvalidArgument, match="party name looks like"):
        party_name(name)


def test_a_certificate_is_valid_for_a_day_at_least() -> None:
    with pytest.raises(InvalidArgument, match="at least one day"):
        Identity.create("a", valid_days=0)


def test_two_attempt_keys_share_a_secret_that_is_fresh() -> None:
    a, b, c = AttemptKey(), AttemptKey(), AttemptKey()
    assert a.shared_secret(b.public) == b.shared_secret(a.public)
    assert a.shared_secret(b.public) != a.shared_secret(c.public)
    assert len({a.public, b.public, c.public}) == 3


@pytest.mark.parametrize(
    "public",
    [
        bytes(32),
        bytes([1]) + bytes(31),
        bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),  # order 8
        bytes(31),
        b"",
    ],
)
def test_keys_whose_secret_everybody_knows_are_refused(public: bytes) -> None:
    with pytest.raises(WireError, match="not a usable X25519 key"):
        AttemptKey().shared_secret(public)


def test_derive_is_hkdf() -> None:
    """RFC 5869, test case 1."""
    got = derive(
        bytes.fromhex("0b" * 22),
        salt=bytes.fromhex("000102030405060708090a0b0c"),
        info=bytes.fromhex("f0f1f2f3f4f5f6f7f8f9"),
        length=42,
    )
    assert got.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"


@given(st.binary(max_size=8), st.binary(max_size=8))
def test_another_info_gives_other_bytes(one: bytes, other: bytes) -> None:
    keys = [derive(b"secret", salt=b"", info=info, length=32) for info in (one, other)]
    assert (keys[0] == keys[1]) == (one == other)


def test_an_identity_is_a_value(identity: Identity) -> None:
    with pytest.raises(AttributeError):
        identity.name = "b"  # type: ignore[misc]
    assert replace(identity) == identity
