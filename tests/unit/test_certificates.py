"""Certificates: what is made, what is loaded, and with which advice the rest is refused."""

import ssl
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from mirai_executor import MiraiExecutor
from mirai_executor._transport import rehearse
from mirai_executor.credentials import _tls, load_certificate, make_certificate
from mirai_executor.keeper import _dial

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@dataclass
class Signed:
    """A certificate of a small authority, with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def key_pem(self, password: bytes | None = None) -> str:
        protection = (
            serialization.BestAvailableEncryption(password)
            if password
            else serialization.NoEncryption()
        )
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
        return self.key.private_bytes(*form, protection).decode()


def sign(
    name: str,
    by: Signed | None = None,
    *,
    start: datetime = NOW - DAY,
    end: datetime = NOW + DAY,
    names: tuple[str, ...] = (),
    addresses: tuple[str, ...] = (),
) -> Signed:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
    )
    others: list[x509.GeneralName] = [x509.DNSName(one) for one in names]
    others += [x509.IPAddress(ip_address(one)) for one in addresses]
    if others:
        builder = builder.add_extension(x509.SubjectAlternativeName(others), critical=False)
    return Signed(builder.sign(by.key if by else key, hashes.SHA256()), key)


@pytest.fixture(scope="module")
def authority() -> Signed:
    return sign("the authority")


@pytest.fixture(scope="module")
def node(authority: Signed) -> Signed:
    return sign("node7", authority, names=("node7.example.org",))


def test_a_certificate_of_our_own_works_for_those_who_pin_it() -> None:
    rehearse(make_certificate())


def test_another_executors_certificate_is_not_trusted() -> None:
    own, other = make_certificate(), make_certificate()
    with pytest.raises(ssl.SSLCertVerificationError):
        rehearse(replace(own, authority=other.authority))
    with pytest.raises(ssl.SSLCertVerificationError):
        rehearse(replace(own, server_name=other.server_name))


def test_a_signed_certificate_works(authority: Signed, node: Signed) -> None:
    rehearse(load_certificate((node.pem, node.key_pem()), authority=authority.pem))


def test_a_certificate_of_our_own_is_for_years_from_yesterday_under_a_random_name() -> None:
    own = make_certificate()
    found = x509.load_pem_x509_certificate(own.certificate.encode())
    assert found.not_valid_before_utc < NOW - DAY / 2
    assert found.not_valid_after_utc > NOW + 3000 * DAY
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [own.server_name]
    assert found.subject.rfc4514_string() == f"CN={own.server_name}"
    public_key = found.public_key()
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    assert public_key.curve.name == "secp256r1"
    assert own.server_name != make_certificate().server_name


def test_the_key_is_not_in_the_repr() -> None:
    own = make_certificate()
    assert "PRIVATE KEY" in own.key
    assert "PRIVATE KEY" not in repr(own)


def test_our_own_certificate_can_be_loaded_back() -> None:
    own = make_certificate()
    assert load_certificate((own.certificate, own.key)) == own


def test_one_file_may_hold_it_all(tmp_path: Path, authority: Signed, node: Signed) -> None:
    file = tmp_path / "node.pem"
    file.write_text(f"a comment\n{node.pem}{authority.pem}{node.key_pem()}")
    found = load_certificate(file)
    assert found == load_certificate(str(file))
    assert found.certificate == node.pem + authority.pem
    assert found.authority == authority.pem
    assert found.server_name == "node7.example.org"


def test_a_pair_may_be_two_files(tmp_path: Path, authority: Signed, node: Signed) -> None:
    (tmp_path / "cert").write_text(node.pem)
    (tmp_path / "key").write_text(node.key_pem())
    (tmp_path / "ca").write_text(authority.pem)
    found = load_certificate((tmp_path / "cert", tmp_path / "key"), authority=tmp_path / "ca")
    assert found.authority == authority.pem
    assert load_certificate((tmp_path / "cert", tmp_path / "key")).authority == ""


@pytest.mark.parametrize("password", ["pass", b"pass", lambda: "pass", lambda: b"pass"])
def test_an_encrypted_key_takes_a_password_or_a_callable(
    node: Signed, password: str | bytes | Callable[[], str | bytes]
) -> None:
    found = load_certificate((node.pem, node.key_pem(b"pass")), password)
    assert "ENCRYPTED" not in found.key


def test_the_password_of_a_key_that_has_none_is_not_asked_for(node: Signed) -> None:
    load_certificate((node.pem, node.key_pem()), lambda: pytest.fail("asked"))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("*.example.org",), "mirai.example.org"),
        (("*.example.org", "a.example.org"), "a.example.org"),
        ((), "node8"),
    ],
)
def test_daemons_ask_for_a_name_that_the_certificate_has(
    authority: Signed, names: tuple[str, ...], expected: str
) -> None:
    other = sign("node8", authority, names=names)
    assert load_certificate((other.pem, other.key_pem())).server_name == expected


@pytest.mark.parametrize(
    ("name", "names", "addresses", "expected"),
    [
        ("127.0.0.1", (), ("127.0.0.1",), "127.0.0.1"),
        ("127.0.0.1", ("127.0.0.1",), ("::1",), "::1"),
        ("127.0.0.1", ("127.0.0.1", "node8"), (), "node8"),
        ("a certificate of mine", (), (), "a certificate of mine"),
    ],
)
def test_hosts_and_daemons_agree_on_a_certificate_with_addresses(
    name: str, names: tuple[str, ...], addresses: tuple[str, ...], expected: str
) -> None:
    own = sign(name, names=names, addresses=addresses)
    found = load_certificate((own.pem, own.key_pem()))
    assert found.server_name == expected
    rehearse(found)


@pytest.mark.parametrize(
    ("name", "names"), [("127.0.0.1", ()), ("::1", ()), ("node", ("127.0.0.1",))]
)
def test_an_address_in_the_place_of_a_name_is_refused(name: str, names: tuple[str, ...]) -> None:
    own = sign(name, names=names)
    with pytest.raises(ValueError, match=r"subjectAltName=IP:(127|::1)"):
        load_certificate((own.pem, own.key_pem()))


def test_a_certificate_that_daemons_would_not_trust_is_refused(
    authority: Signed, node: Signed
) -> None:
    pair = (node.pem, node.key_pem())
    stranger = sign("another authority")
    with pytest.raises(ValueError, match=r"would not trust.*'node7\.example\.org'"):
        MiraiExecutor(url="tls+tcp://127.0.0.1:0", tls=pair, tls_cert=stranger.pem)
    MiraiExecutor(url="tls+tcp://127.0.0.1:0", tls=pair, tls_cert=authority.pem).shutdown()


def test_what_cannot_work_is_refused_with_advice(authority: Signed, node: Signed) -> None:
    expired = sign("old", authority, start=NOW - 9 * DAY, end=NOW - DAY)
    early = sign("new", authority, start=NOW + DAY, end=NOW + 9 * DAY)
    nameless = sign("", authority)
    edwards = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    damaged = "-----BEGIN PRIVATE KEY-----\nnonsense\n-----END PRIVATE KEY-----"
    begun = "-----BEGIN CERTIFICATE-----\nnonsense"
    for certificate, key, password, message in [
        (node.pem, authority.key_pem(), None, "is not that of the first certificate"),
        (authority.pem + node.pem, node.key_pem(), None, "comes first"),
        (expired.pem, expired.key_pem(), None, "expired on 20"),
        (early.pem, early.key_pem(), None, "valid only from .* clock"),
        (nameless.pem, nameless.key_pem(), None, "neither"),
        (node.pem, node.pem, None, "no private key in PEM form.*pass a pair"),
        (node.key_pem(), node.key_pem(), None, "no certificate in PEM form"),
        (begun, node.key_pem(), None, "no certificate in PEM form"),
        (node.pem, damaged, None, "cannot be read"),
        (node.pem, node.key_pem(b"pass"), None, "is encrypted; pass tls_password="),
        (node.pem, node.key_pem(b"pass"), "wrong", "the password is wrong"),
        (node.pem, node.key_pem(b"pass"), "", "the password is wrong"),
        (node.pem, edwards.decode(), None, "is not that of the first certificate"),
    ]:
        with pytest.raises(ValueError, match=message) as refused:
            load_certificate((certificate, key), password)
        assert "-----\n" not in str(refused.value)


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no\.pem"):
        load_certificate(tmp_path / "no.pem")
    (tmp_path / "node.der").write_bytes(b"\x30\x82\xff\x00")
    with pytest.raises(ValueError, match=r"node\.der holds no certificate in PEM form"):
        load_certificate(tmp_path / "node.der")


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys, mirai_executor, mirai_executor.credentials, mirai_executor.urls\n"
        "import mirai_executor.launchers\n"
        "heavy = {'cryptography', 'ssl', 'asyncio', 'urllib.request', 'http.client'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# Clocks


@pytest.mark.parametrize(("since", "until"), [(3 * DAY, 9 * DAY), (-9 * DAY, -3 * DAY)])
def test_the_clock_of_a_daemon_does_not_matter_to_a_certificate_that_was_made_for_it(
    monkeypatch: pytest.MonkeyPatch, since: timedelta, until: timedelta
) -> None:
    monkeypatch.setattr(_tls, "_BACKDATED", -since)
    monkeypatch.setattr(_tls, "_VALID", until)
    rehearse(make_certificate())


@pytest.mark.parametrize(("code", "names_clock"), [(9, True), (10, True), (20, False)])
def test_a_daemon_names_its_clock_where_a_date_is_what_it_does_not_trust(
    code: int, names_clock: bool
) -> None:
    error = ssl.SSLCertVerificationError("verify failed")
    error.verify_code, error.verify_message = code, "certificate has expired"
    text = _dial._describe(error)
    assert text.startswith("its certificate is not trusted: certificate has expired")
    assert (f"the clock here says {datetime.now(UTC):%Y-}" in text) is names_clock
