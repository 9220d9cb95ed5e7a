"""Makes the certificate of a listener, or loads one that an authority has signed.

``cryptography`` is imported only when one of these is called. No key is written to a file with a
name.
"""

import ipaddress
import re
import secrets
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

# Clocks of other machines may be slow; no longer than RFC 5280's two-digit years can say.
_BACKDATED = timedelta(days=1)
_VALID = timedelta(days=3650)
_OUR_NAME = "mirai-"
_PEM = "-----BEGIN "

Source = str | Path  # of a certificate or a key: PEM text, or the path of a file
Password = str | bytes | Callable[[], str | bytes]


class TlsVersion(Enum):
    """A version of TLS; what is older than these is broken."""

    TLS_1_2 = "1.2"
    TLS_1_3 = "1.3"

    @classmethod
    def _missing_(cls, value: object) -> "TlsVersion":
        raise ValueError(f'tls_minimum must be "1.2" or "1.3", not {value!r}')


@dataclass(frozen=True)
class Certificate:
    """What a listener shows, and what daemons need to recognise it.

    Args:
        certificate: The certificate and those between it and its authority, as PEM.
        key: Its private key, as unencrypted PEM; ``repr`` does not show it, and it stays here.
        server_name: The name that daemons ask for, whichever address they dial.
        authority: What daemons trust, as PEM: the certificate itself if it signed itself. Empty
            where only the user can say.
        tls_minimum: The oldest version of TLS over which it is shown.
    """

    certificate: str
    key: str = field(repr=False)
    server_name: str
    authority: str
    tls_minimum: TlsVersion = TlsVersion.TLS_1_3

    @property
    def digest(self) -> bytes:
        """The SHA-256 of the listener's own certificate, by which both sides know it."""
        _, _, text, *_ = self.certificate.split("-----")
        return sha256(b64decode(text)).digest()


def make_certificate() -> Certificate:
    """Return a fresh certificate that signs itself, with an elliptic-curve key (P-256).

    It is valid from a day ago, for ten years, and bears a random name instead of an address: so
    it fits through tunnels and translated addresses, and says nothing about this machine.
    """
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    name = f"{_OUR_NAME}{secrets.token_hex(8)}"
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _unsigned(name, key.public_key()).sign(key, hashes.SHA256())
    pem = _as_pem([certificate])
    return Certificate(pem, _key_as_pem(key), name, authority=pem)


def is_made_here(server_name: str) -> bool:
    """Tell whether the name is that of a certificate which :func:`make_certificate` has made.

    Daemons trust that very certificate, and for as long as the executor lives: what a clock says
    does not matter.
    """
    return re.fullmatch(f"{_OUR_NAME}[0-9a-f]{{16}}", server_name) is not None


def load_certificate(
    tls: Source | tuple[Source, Source],
    password: Password | None = None,
    authority: Source | None = None,
) -> Certificate:
    """Return the certificate that an authority has signed, after checking that it can work.

    Args:
        tls: A file that holds the certificate, the certificates between it and its authority,
            and its key; or a pair of files, the certificates and the key. The PEM text itself
            will do in place of a file.
        password: What the key is encrypted with, or a callable that returns it.
        authority: The certificates that daemons are to trust, a file or PEM text. Without it,
            those that came with the certificate.

    Raises:
        ValueError: They do not fit together, or cannot be used; the message says what to do.
        OSError: A file cannot be read.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    shown, private = tls if isinstance(tls, tuple) else (tls, tls)
    chain = _read_certificates(_text(shown), _name(shown))
    key = _read_key(_text(private), _name(private), password)
    leaf = chain[0]
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if leaf.public_key().public_bytes(*form) != key.public_key().public_bytes(*form):
        raise ValueError(
            f"the key in {_name(private)} is not that of the first certificate in {_name(shown)}; "
            "the listener's own certificate comes first, then those that signed it"
        )
    _check_dates(leaf, _name(shown))
    if authority is not None:
        trusted = _as_pem(_read_certificates(_text(authority), _name(authority)))
    else:
        trusted = _as_pem(chain[1:] or [one for one in chain if one.issuer == one.subject])
    return Certificate(_as_pem(chain), _key_as_pem(key), _server_name(leaf), trusted)


def _unsigned(name: str, public_key: object) -> "x509.CertificateBuilder":
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.SubjectAlternativeName([x509.DNSName(name)]), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.KeyUsage(digital_signature=True, **usage), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectKeyIdentifier.from_public_key(public_key), False),  # type: ignore[arg-type] # a public key of any kind
    ]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public_key)  # type: ignore[arg-type] # as above
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _VALID)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder


def _text(source: str | Path) -> str:
    if isinstance(source, str) and _PEM in source:
        return source
    return Path(source).read_text(encoding="utf-8", errors="replace")


def _name(source: str | Path) -> str:
    """Name a source for a message, without showing PEM text."""
    return "the PEM text" if isinstance(source, str) and _PEM in source else str(source)


def _read_certificates(text: str, name: str) -> "list[x509.Certificate]":
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(text.encode())
    except ValueError as error:
        raise ValueError(
            f"{name} holds no certificate in PEM form, a block between the lines "
            f"-----BEGIN CERTIFICATE----- and -----END CERTIFICATE----- ({error})"
        ) from error


def _read_key(text: str, name: str, password: Password | None) -> "PrivateKeyTypes":
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    block = _key_block(text, name)
    is_encrypted = b"ENCRYPTED" in block
    if is_encrypted and password is None:
        raise ValueError(f"the key in {name} is encrypted; pass tls_password=")
    word = _password_bytes(password) if is_encrypted else None
    try:
        return load_pem_private_key(block, word)
    except Exception as error:  # ValueError, TypeError, UnsupportedAlgorithm: all mean the same
        why = "the password is wrong, or the key is damaged" if is_encrypted else str(error)
        raise ValueError(f"the key in {name} cannot be read: {why}") from error


def _key_block(text: str, name: str) -> bytes:
    """Cut the key out of a file that holds certificates too."""
    lines = text.splitlines()
    starts = [n for n, line in enumerate(lines) if _PEM in line and "PRIVATE KEY-----" in line]
    ends = [n for n, line in enumerate(lines) if "-----END " in line and "PRIVATE KEY" in line]
    if not starts or not ends:
        raise ValueError(
            f"{name} holds no private key in PEM form, a block between the lines "
            "-----BEGIN PRIVATE KEY----- and -----END PRIVATE KEY-----; "
            "pass a pair if certificate and key are in two files"
        )
    return "\n".join([*lines[starts[0] : ends[0] + 1], ""]).encode()


def _password_bytes(password: Password | None) -> bytes | None:
    word = password() if callable(password) else password
    return word.encode() if isinstance(word, str) else word


def _check_dates(certificate: "x509.Certificate", name: str) -> None:
    now = datetime.now(UTC)
    if now > (end := certificate.not_valid_after_utc):
        raise ValueError(f"the certificate in {name} expired on {end:%Y-%m-%d %H:%M} UTC")
    if now < (start := certificate.not_valid_before_utc):
        raise ValueError(
            f"the certificate in {name} is valid only from {start:%Y-%m-%d %H:%M} UTC; "
            "is the clock of this machine right?"
        )


def _server_name(certificate: "x509.Certificate") -> str:
    """Return a name that the certificate is good for."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    addresses: list[str] = []
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = [
            str(name.value)
            for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        ]
    else:
        names = found.get_values_for_type(x509.DNSName)
        addresses = [str(address) for address in found.get_values_for_type(x509.IPAddress)]
    # TLS looks for an address among the addresses, never among the names (RFC 9525, 6.5).
    misplaced = [name for name in names if _is_address(name)]
    names = [name for name in names if name not in misplaced] + addresses
    names.sort(key=lambda name: name.startswith("*."))  # a whole name rather than a pattern
    if not names and misplaced:
        raise ValueError(
            f"the certificate bears the IP address {misplaced[0]} as a name, where TLS does not "
            "look for it; make one with another name, which need not be that of a machine, or "
            f"with the address in its place: openssl req -addext subjectAltName=IP:{misplaced[0]}"
        )
    if not names:
        raise ValueError(
            "the certificate has neither a subject alternative name nor a common name"
        )
    return f"mirai{names[0][1:]}" if names[0].startswith("*.") else names[0]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _as_pem(certificates: "list[x509.Certificate]") -> str:
    from cryptography.hazmat.primitives.serialization import Encoding

    return "".join(one.public_bytes(Encoding.PEM).decode() for one in certificates)


def _key_as_pem(key: "PrivateKeyTypes") -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
