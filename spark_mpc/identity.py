"""Who a party is: a long-lived signing key with its certificate, and the ephemeral keys of one attempt.

The certificate is self-signed: peers pin it in the federation file, so that there is no authority to trust.
"""

from __future__ import annotations

import datetime
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dp.errors import InvalidArgument
from spark_mpc.errors import SignatureRefused, WireError

__all__ = [
    "AttemptKey",
    "Identity",
    "certificate_name",
    "derive",
    "fingerprint",
    "pair_key",
    "party_name",
    "read_certificate",
    "verify",
]

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_SIGNATURE_CONTEXT = (
    b"spark-mpc signature v1\0"  # what is signed here is never valid as a TLS handshake, nor the reverse
)
_CLOCK_SKEW = datetime.timedelta(hours=1)
_ECDSA = ec.ECDSA(hashes.SHA256())
_SCALAR_BYTES = 32  # of P-256


def party_name(value: object, parameter: str = "name") -> str:
    """`value` if it can be a party's name: a small letter, then small letters, digits, `_` or `-`; at most 63.

    Raises:
        InvalidArgument: otherwise.
    """
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise InvalidArgument(parameter, value, 'a party name looks like "insurer_a": a-z, 0-9, _ and -, at most 63')
    return value


@dataclass(frozen=True)
class Identity:
    """A party's name with its ECDSA P-256 key and the certificate that its peers pin.

    Args:
        name: the party's name; the certificate's only DNS name.
        certificate: PEM, public.
        key: the private key; never printed, and written only by `save`.
    """

    name: str
    certificate: str = field(repr=False)
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def create(cls, name: str, *, valid_days: int = 730) -> Identity:
        """A new key and a certificate for it that is valid from an hour ago, for `valid_days` days.

        Raises:
            InvalidArgument: a name that cannot be a party's, or less than one day.
        """
        party_name(name)
        if valid_days < 1:
            raise InvalidArgument("valid_days", valid_days, "a certificate is valid for at least one day")
        now = datetime.datetime.now(datetime.UTC)
        key = ec.generate_private_key(ec.SECP256R1())
        return cls(name, _self_signed(name, key, now - _CLOCK_SKEW, now + datetime.timedelta(days=valid_days)), key)

    @classmethod
    def load(cls, directory: str | os.PathLike[str], name: str) -> Identity:
        """Read `<name>.key` and `<name>.crt` as `save` wrote them.

        Raises:
            InvalidArgument: a missing or unreadable file, a key that others may read, or a key of another certificate.
        """
        return cls.load_key(Path(directory) / f"{party_name(name)}.key", name)

    @classmethod
    def load_key(cls, path: str | os.PathLike[str], name: str) -> Identity:
        """Read the key at `path` and the certificate beside it, which has the suffix `.crt`.

        Raises:
            InvalidArgument: as `load`.
        """
        key_path, certificate_path = Path(path), Path(path).with_suffix(".crt")
        for needed in (key_path, certificate_path):
            if not needed.is_file():
                raise InvalidArgument("key", str(needed), "no such file: make one with `spark-mpc init`")
        if key_path.stat().st_mode & 0o077:
            raise InvalidArgument("key", str(key_path), "others may read it: `chmod 600` it, or make a new one")
        key, certificate = _read_key(key_path), certificate_path.read_text(encoding="ascii", errors="replace")
        parsed = read_certificate(certificate)
        if certificate_name(parsed) != party_name(name):
            raise InvalidArgument(
                "name", name, f"{certificate_path} is the certificate of {certificate_name(parsed)!r}"
            )
        if parsed.public_key() != key.public_key():
            raise InvalidArgument("key", str(key_path), f"it does not belong to {certificate_path}")
        return cls(name, _pem(parsed), key)

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Write `<name>.key`, readable by its owner only, and `<name>.crt`.

        Raises:
            InvalidArgument: one of them is there already; a key is never overwritten.
        """
        self.refuse_overwriting(directory)
        folder = Path(directory)
        self._write(folder / f"{self.name}.key", self.key_pem(serialization.NoEncryption()), 0o600)
        self._write(folder / f"{self.name}.crt", self.certificate.encode("ascii"), 0o644)

    def refuse_overwriting(self, directory: str | os.PathLike[str]) -> None:
        """Refuse if `save` would find one of its files there already.

        Raises:
            InvalidArgument: it would.
        """
        for path in (Path(directory) / f"{self.name}.key", Path(directory) / f"{self.name}.crt"):
            if path.exists():
                raise InvalidArgument("directory", str(path), "it is there already and is not overwritten: move it")

    def key_pem(self, encryption: serialization.KeySerializationEncryption) -> bytes:
        """The private key as PKCS #8 under `encryption`."""
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)

    def sign(self, data: bytes) -> bytes:
        """An ECDSA signature over `data`, to be checked with `verify`; 64 bytes, unlike DER, whose length varies."""
        numbers = decode_dss_signature(self.key.sign(_SIGNATURE_CONTEXT + data, _ECDSA))
        return b"".join(number.to_bytes(_SCALAR_BYTES, "big") for number in numbers)

    @staticmethod
    def _write(path: Path, content: bytes, mode: int) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)


def verify(certificate_pem: str, signature: bytes, data: bytes) -> None:
    """Check that the owner of the certificate signed `data`.

    Raises:
        SignatureRefused: it did not.
        InvalidArgument: not a party's certificate.
    """
    key = read_certificate(certificate_pem).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)  # read_certificate refuses others
    r, s = (int.from_bytes(half, "big") for half in (signature[:_SCALAR_BYTES], signature[_SCALAR_BYTES:]))
    try:
        if len(signature) != 2 * _SCALAR_BYTES:
            raise InvalidSignature
        key.verify(encode_dss_signature(r, s), _SIGNATURE_CONTEXT + data, _ECDSA)
    except InvalidSignature:
        raise SignatureRefused("the signature does not belong to this certificate and these data") from None


def fingerprint(certificate_pem: str) -> str:
    """The SHA-256 of the certificate's DER form, in hexadecimal."""
    return read_certificate(certificate_pem).fingerprint(hashes.SHA256()).hex()


def read_certificate(pem: str) -> x509.Certificate:
    """Parse a party's certificate: self-signed, P-256, for one DNS name that is a party's name, no authority.

    Raises:
        InvalidArgument: anything else.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode("ascii"))
        certificate.verify_directly_issued_by(certificate)
        key = certificate.public_key()
    except (ValueError, TypeError, InvalidSignature):
        raise _bad_certificate(pem, "is not a self-signed certificate in PEM") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _bad_certificate(pem, "has a key that is not on P-256")
    if _may_issue(certificate):
        raise _bad_certificate(pem, "is a certificate authority's")
    certificate_name(certificate)
    return certificate


def certificate_name(certificate: x509.Certificate) -> str:
    """The one DNS name of a party's certificate.

    Raises:
        InvalidArgument: none, several, or one that cannot be a party's name.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (name,) = names
    except (x509.ExtensionNotFound, ValueError):
        raise InvalidArgument("certificate", _shown(certificate), "it names no party: use `spark-mpc init`") from None
    return party_name(name.value if isinstance(name, x509.DNSName) else None, "name in the certificate")


class AttemptKey:
    """A fresh X25519 key for one attempt of one run; it is never stored and never printed."""

    __slots__ = ("_private", "public")

    def __init__(self) -> None:
        self._private = X25519PrivateKey.generate()
        self.public = self._private.public_key().public_bytes_raw()

    def shared_secret(self, peer_public: bytes) -> bytes:
        """The 32 bytes that only this key and the peer's can compute.

        Raises:
            WireError: not a public key, or one of small order, whose secret everybody knows.
        """
        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(peer_public))
        except ValueError:
            raise WireError("the peer's attempt key is not a usable X25519 key: it must send a fresh one") from None

    def __repr__(self) -> str:
        return f"AttemptKey(public={self.public.hex()})"


def derive(secret: bytes, *, salt: bytes, info: bytes, length: int) -> bytes:
    """`length` bytes from `secret` by HKDF with SHA-256 (RFC 5869); another `info` gives independent bytes."""
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=salt, info=info).derive(secret)


def pair_key(secret: bytes, *, run: bytes, purpose: str, pair: tuple[str, str], length: int) -> bytes:
    """A key that two parties derive alike from what they share in one attempt, for one purpose.

    Args:
        secret: what the two share.
        run: the attempt.
        purpose: such as "additive mask 1"; another purpose gives an independent key.
        pair: their names, in any order.
        length: bytes.
    """
    first, second = sorted(pair)
    return derive(secret, salt=run, info=f"spark-mpc {purpose}|{first}|{second}".encode(), length=length)


def _self_signed(name: str, key: ec.EllipticCurvePrivateKey, start: datetime.datetime, end: datetime.datetime) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _pem(builder.sign(key, hashes.SHA256()))


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError):
        raise InvalidArgument("key", str(path), "it is not an unencrypted private key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InvalidArgument("key", str(path), "it is not an elliptic-curve key: make one with `spark-mpc init`")
    return key


def _may_issue(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _bad_certificate(pem: str, what: str) -> InvalidArgument:
    shown = pem.strip().splitlines()[1][:24] + "..." if len(pem.strip().splitlines()) > 1 else pem[:24]
    return InvalidArgument("certificate", shown, f"it {what}: make one with `spark-mpc init`")


def _shown(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()[:16]
