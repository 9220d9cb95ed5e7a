"""The handshake and the seal: who is admitted, and that nothing sent back, again or changed is."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirai_executor.credentials import (
    LARGEST_FRAME,
    NO_CERTIFICATE,
    DaemonCredentials,
    DaemonHandshake,
    HostHandshake,
    Opener,
    PeerVersion,
    ProtocolError,
    Sealer,
    Secret,
    SessionKeys,
    TlsVersion,
    Token,
    TokenId,
    VersionMismatchError,
    WrongCertificateError,
    WrongSecretError,
    given_secret,
    new_secret,
)

SECRET = Secret(b"s" * 32)
OTHER_SECRET = Secret(b"o" * 32)
HERE = PeerVersion((3, 12), "0.1.0")

# Computed by hand from docs/protocol.md, not by the code under test.
GOLDEN = [
    "4d495241010100030c302e312e300000000000000000000000000000000000000000000000000000"
    "00646464646464646464646464646464646464646464646464646464646464646407000000000000"
    "00030000001eb5b96bf33a99b569c6ab4ba17322bd3b5a4c67cd0eda3424e8986015568b55",
    "4d495241020100030c302e312e300000000000000000000000000000000000000000000000000000"
    "00686868686868686868686868686868686868686868686868686868686868686863636363636363"
    "63636363636363636363636363636363636363636363636363abe30434014979b1d38aa4643cbb64"
    "85f8164f24ed7de78830ebd75ec836d8a4",
    "4d49524103010063636363636363636363636363636363636363636363636363636363636363638c"
    "d62901b7eb84dd6dd883d22a94c3ab871a9e6796856444b1cda448cc0ca789",
    "4d495241040100cc6d7a8cfb79b745d488671d686933a85920e18dd6c25da5539bff4acc0befe1",
]
GOLDEN_SEALED = "6672616d659d005e9bd3e772e11e1d61b21c8fd1d99a1fc9a9f273d2c06b0494ab261584b3"

Handshake = HostHandshake | DaemonHandshake


def host(
    secret: Secret = SECRET, me: PeerVersion = HERE, nonce: bytes = b"h" * 32
) -> HostHandshake:
    return HostHandshake(secret, me, nonce)


def daemon(
    secret: Secret = SECRET, me: PeerVersion = HERE, nonce: bytes = b"d" * 32
) -> DaemonHandshake:
    return DaemonHandshake(secret, me, nonce)


def converse(one: HostHandshake, other: DaemonHandshake) -> list[bytes]:
    """Let both talk to the end; return hello, challenge, proof and welcome."""
    hello = other.hello()
    challenge = one.receive(hello)
    proof = other.receive(challenge)
    assert proof is not None
    welcome = one.receive(proof)
    assert other.receive(welcome) is None
    return [hello, challenge, proof, welcome]


def sides_at(step: int) -> tuple[Handshake, bytes]:
    """Return the side whose turn it is at a step, and the frame that it should get."""
    one, other = host(), daemon()
    frames = converse(host(), daemon())
    if step >= 1:
        one.receive(frames[0])
    if step >= 2:
        other.receive(frames[1])
    if step >= 3:
        one.receive(frames[2])
    return (one if step in (0, 2) else other), frames[step]


def test_both_sides_end_with_the_same_keys_one_for_each_direction() -> None:
    one, other = host(), daemon()
    frames = converse(one, other)
    assert one.is_done
    assert other.is_done
    assert one.keys == other.keys
    assert one.keys is not None
    assert one.keys.to_daemon != one.keys.to_host
    assert (one.peer, other.peer) == (HERE, HERE)
    assert all(len(frame) < LARGEST_FRAME for frame in frames)


def test_each_connection_has_keys_of_its_own() -> None:
    found = set()
    for _ in range(3):
        one, other = HostHandshake(SECRET), DaemonHandshake(SECRET)
        converse(one, other)
        assert one.keys is not None
        found |= {one.keys.to_daemon, one.keys.to_host}
    assert len(found) == 6


def test_no_side_is_done_before_the_other_has_proved_the_secret() -> None:
    one, other = host(), daemon()
    challenge = one.receive(other.hello())
    proof = other.receive(challenge)
    assert proof is not None
    assert (one.is_done, other.is_done) == (False, False)
    one.receive(proof)
    assert (one.is_done, other.is_done) == (True, False)


@given(step=st.integers(0, 3), data=st.data())
def test_a_frame_with_any_bit_flipped_admits_nobody(step: int, data: st.DataObject) -> None:
    side, frame = sides_at(step)
    bit = data.draw(st.integers(0, len(frame) * 8 - 1))
    changed = bytearray(frame)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ProtocolError):
        side.receive(bytes(changed))
    assert not side.is_done
    side.receive(frame)  # and the failure has changed nothing


@pytest.mark.parametrize("step", range(4))
def test_every_single_bit_of_a_frame_counts(step: int) -> None:
    side, frame = sides_at(step)
    for bit in range(len(frame) * 8):
        changed = bytearray(frame)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ProtocolError):
            side.receive(bytes(changed))
    side.receive(frame)


@given(step=st.integers(0, 4), data=st.binary(max_size=2 * LARGEST_FRAME))
def test_garbage_is_a_protocol_error_at_any_step(step: int, data: bytes) -> None:
    if step < 4:
        side, _ = sides_at(step)
    else:
        side, other = host(), daemon()
        converse(side, other)
    with pytest.raises(ProtocolError):
        side.receive(data)


@pytest.mark.parametrize("step", range(4))
def test_a_frame_cut_short_or_with_bytes_added_is_refused(step: int) -> None:
    side, frame = sides_at(step)
    for changed in (b"", frame[:-1], frame[1:], frame + b"\0", frame + frame, b"\0" * 1000):
        with pytest.raises(ProtocolError):
            side.receive(changed)
    side.receive(frame)


@pytest.mark.parametrize("step", range(4))
def test_only_the_frame_whose_turn_it_is_is_taken(step: int) -> None:
    side, frame = sides_at(step)
    for other in converse(host(), daemon()):
        if other != frame:
            with pytest.raises(ProtocolError):
                side.receive(other)
    side.receive(frame)


def test_a_recorded_conversation_means_nothing_in_another_one() -> None:
    hello, challenge, proof, welcome = converse(host(), daemon())
    again = host(nonce=b"H" * 32)
    again.receive(hello)  # only says that its sender once knew the secret
    with pytest.raises(WrongSecretError):
        again.receive(proof)
    assert not again.is_done
    victim = daemon(nonce=b"D" * 32)
    with pytest.raises(WrongSecretError):
        victim.receive(challenge)
    with pytest.raises(ProtocolError):
        victim.receive(welcome)
    assert not victim.is_done


def test_a_side_is_not_deceived_by_its_own_frames() -> None:
    one, other = host(), daemon()
    with pytest.raises(ProtocolError):
        other.receive(other.hello())
    challenge = one.receive(other.hello())
    with pytest.raises(ProtocolError):
        one.receive(challenge)
    proof = other.receive(challenge)
    assert proof is not None
    with pytest.raises(ProtocolError):
        other.receive(proof)
    # Nor by a second host or daemon of the same secret, asked to speak for the first.
    with pytest.raises(ProtocolError):
        daemon(nonce=b"D" * 32).receive(proof)


def test_with_different_secrets_neither_side_admits_the_other() -> None:
    one, other = host(), daemon(OTHER_SECRET)
    with pytest.raises(WrongSecretError, match="does not know this executor's secret") as refused:
        one.receive(other.hello())
    assert refused.value.reply is not None
    with pytest.raises(WrongSecretError, match="for another executor"):
        other.receive(refused.value.reply)
    assert (one.is_done, other.is_done) == (False, False)


def test_a_refusal_of_a_wrong_hello_tells_nothing_of_the_executor() -> None:
    replies = set()
    for secret in (SECRET, OTHER_SECRET):
        with pytest.raises(WrongSecretError) as refused:
            host(secret).receive(daemon(Secret(b"x" * 32)).hello())
        replies.add(refused.value.reply)
    assert len(replies) == 1


@pytest.mark.parametrize("shown", [b"r" * 32, NO_CERTIFICATE])
def test_who_shows_another_certificate_is_found_out_by_both_sides(shown: bytes) -> None:
    one = HostHandshake(SECRET, certificate=b"c" * 32)
    other = DaemonHandshake(SECRET, certificate=shown)
    with pytest.raises(WrongCertificateError, match="somebody between them") as at_daemon:
        other.receive(one.receive(other.hello()))
    assert at_daemon.value.reply is not None
    with pytest.raises(ProtocolError, match="somebody between them"):
        one.receive(at_daemon.value.reply)
    # And a daemon that does not mind is found out by the host.
    one, other = HostHandshake(SECRET, certificate=b"c" * 32), DaemonHandshake(SECRET)
    other._check_certificate = lambda found, data: None  # type: ignore[method-assign] # careless
    proof = other.receive(one.receive(other.hello()))
    assert proof is not None
    with pytest.raises(WrongCertificateError):
        one.receive(proof)
    assert (one.is_done, other.is_done) == (False, False)


def test_the_host_knows_every_token_and_which_one_it_is() -> None:
    launch = SECRET.new_token()
    assert launch.id != SECRET.new_token().id
    for token in (SECRET.token(), launch, launch.member(1), launch.member(2)):
        one = host()
        converse(one, DaemonHandshake(token, HERE))
        assert one.token == token.id
        assert Token.from_text(token.text) == token
        assert token.text not in repr(token)
        assert SECRET.text not in token.text


def test_a_token_under_another_number_is_worth_nothing() -> None:
    token = SECRET.new_token().member(1)
    for other in (TokenId(token.id.launch, 2), TokenId(token.id.launch, 0), TokenId(0, 0)):
        with pytest.raises(WrongSecretError):
            host().receive(DaemonHandshake(Token(token.key, other), HERE).hello())


def test_a_daemon_cannot_pose_as_the_host_of_another_one() -> None:
    launch = SECRET.new_token()
    mine, victim = launch.member(1), DaemonHandshake(launch.member(2), HERE)
    impostor = host()
    impostor._use(mine)
    impostor._said = victim.hello()
    challenge = impostor._frame(2, impostor._versions() + NO_CERTIFICATE)  # type: ignore[arg-type] # the wire's number
    with pytest.raises(WrongSecretError):
        victim.receive(challenge)


def test_a_token_that_was_revoked_admits_nobody() -> None:
    token = SECRET.new_token().member(1)
    one, other = HostHandshake(SECRET, HERE, revoked={token.id}), DaemonHandshake(token, HERE)
    with pytest.raises(WrongSecretError, match="was dismissed") as refused:
        one.receive(other.hello())
    assert one.peer is None
    with pytest.raises(WrongSecretError):
        other.receive(refused.value.reply or b"")


def test_a_host_without_the_secret_gets_no_proof() -> None:
    impostor = host(OTHER_SECRET)
    victim = daemon()
    # As an impostor would that skips its own check.
    impostor._use(OTHER_SECRET.token())
    impostor._said = victim.hello()
    challenge = impostor._frame(2, impostor._versions())  # type: ignore[arg-type] # the wire's number
    with pytest.raises(WrongSecretError) as refused:
        victim.receive(challenge)
    assert refused.value.reply is None


MISMATCHES = {
    "python": (
        PeerVersion((3, 11), "0.1.0"),
        "start the daemon with the host's version of Python",
    ),
    "version": (PeerVersion((3, 12), "0.2.0"), "install the host's version of mirai-executor"),
    "protocol": (PeerVersion((3, 12), "0.1.0", 2), "install the host's version of mirai-executor"),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_versions_that_do_not_fit_are_refused_with_the_same_words_on_both_sides(name: str) -> None:
    peer, message = MISMATCHES[name]
    one, other = host(), daemon(me=peer)
    with pytest.raises(VersionMismatchError, match=message) as at_host:
        one.receive(other.hello())
    assert str(HERE) in str(at_host.value)
    assert str(peer) in str(at_host.value)
    assert at_host.value.reply is not None
    assert len(at_host.value.reply) <= LARGEST_FRAME
    with pytest.raises(VersionMismatchError) as at_daemon:
        other.receive(at_host.value.reply)
    assert str(at_daemon.value) == str(at_host.value)


@pytest.mark.parametrize("name", MISMATCHES)
def test_a_daemon_refuses_a_host_that_did_not_mind(name: str) -> None:
    peer, message = MISMATCHES[name]
    one, other = host(me=peer), daemon()
    one._fitting_peer = lambda frame, data: HERE  # type: ignore[method-assign] # a careless host
    with pytest.raises(VersionMismatchError, match=message) as at_daemon:
        other.receive(one.receive(other.hello()))
    assert at_daemon.value.reply is not None
    with pytest.raises(VersionMismatchError) as at_host:
        one.receive(at_daemon.value.reply)
    assert str(at_host.value) == str(at_daemon.value)


def test_a_refusal_that_was_changed_or_recorded_is_not_believed() -> None:
    one, other = host(), daemon(me=PeerVersion((3, 11), "0.1.0"))
    with pytest.raises(VersionMismatchError) as refused:
        one.receive(other.hello())
    reply = refused.value.reply
    assert reply is not None
    for victim in (other, daemon(nonce=b"D" * 32)):
        changed = reply.replace(b"start", b"smart") if victim is other else reply
        with pytest.raises(WrongSecretError):
            victim.receive(changed)


def test_patch_versions_fit_and_what_is_no_version_is_a_protocol_error() -> None:
    converse(host(), daemon(me=PeerVersion((3, 12), "0.1.7.dev3+gabc")))
    for version in ("", "nonsense", "0.1\x1b[2J"):
        with pytest.raises(ProtocolError, match="invalid version"):
            host().receive(daemon(me=PeerVersion((3, 12), version)).hello())


def test_a_hello_of_a_later_protocol_is_answered_though_its_body_is_unknown() -> None:
    other = daemon(me=PeerVersion((3, 12), "9.0", 7))
    for body in (b"", b"\xff" * 66 + bytes(12) + b"\xff" * 300):
        other._said = b""
        hello = other._frame(1, body)  # type: ignore[arg-type] # the wire's number
        with pytest.raises(VersionMismatchError, match="protocol 7"):
            host().receive(hello)


def test_a_frame_of_the_wrong_size_is_refused_even_from_one_who_knows_the_secret() -> None:
    one, other = host(), daemon()
    challenge = one.receive(other.hello())
    other.receive(challenge)
    other._said = other.hello() + challenge
    with pytest.raises(ProtocolError, match="with 5 bytes"):
        one.receive(other._frame(3, b"extra"))  # type: ignore[arg-type] # the wire's number


def test_this_process_is_of_this_version() -> None:
    converse(HostHandshake(SECRET), DaemonHandshake(SECRET))


def test_a_secret_is_32_random_bytes_and_survives_as_text() -> None:
    one, other = new_secret(), new_secret()
    assert one != other
    assert len(one.key) == 32
    assert Secret.from_text(one.text) == one
    assert one.text.isalnum()


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "g" * 64, "0" * 64 + "\n"])
def test_what_is_no_secret_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits") as refused:
        Secret.from_text(text)
    assert text == "" or text not in str(refused.value)


def test_neither_secrets_nor_keys_are_in_a_repr() -> None:
    keys = SessionKeys(b"\1" * 32, b"\2" * 32)
    assert repr(SECRET) == "Secret()"
    assert repr(keys) == "SessionKeys()"


def test_what_a_daemon_needs_travels_as_environment_and_is_taken_out_there() -> None:
    for credentials in (
        DaemonCredentials(SECRET),
        DaemonCredentials(SECRET.token(2**64 - 1, 2**32 - 1)),
        DaemonCredentials(SECRET, "-----BEGIN\n", "mirai-0"),
        DaemonCredentials(SECRET, tls_minimum=TlsVersion.TLS_1_2),
        DaemonCredentials(SECRET, "a bundle of authorities\n" * 20_000),
    ):
        environment = {"HOME": "/", **credentials.environment}
        assert max(map(len, environment.values())) < 1 << 17  # what Linux takes in one
        assert DaemonCredentials.take_from(environment) == credentials
        assert environment == {"HOME": "/"}
        assert SECRET.text not in repr(credentials)


def test_a_daemon_without_a_secret_is_told_where_it_comes_from() -> None:
    with pytest.raises(
        ValueError, match="MIRAI_EXECUTOR_SECRET is not set: start the daemon with a launcher"
    ):
        DaemonCredentials.take_from({})
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        DaemonCredentials.take_from({"MIRAI_EXECUTOR_SECRET": "none"})


def test_what_is_no_version_of_tls_that_is_spoken_is_refused() -> None:
    environment = {**DaemonCredentials(SECRET).environment, "MIRAI_EXECUTOR_TLS_MINIMUM": "1.1"}
    with pytest.raises(ValueError, match=r'tls_minimum must be "1.2" or "1.3", not \'1.1\''):
        DaemonCredentials.take_from(environment)


def test_a_host_takes_the_secret_that_its_environment_has() -> None:
    secret = new_secret()
    assert given_secret({}) is None
    assert given_secret({"MIRAI_EXECUTOR_SECRET": secret.text}) == secret
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        given_secret({"MIRAI_EXECUTOR_SECRET": "too short"})


@pytest.mark.parametrize(
    "text",
    [
        "0" * 64,
        "5a" * 32,
        "0123456789abcdef" * 4,
        bytes(range(32)).hex(),
        bytes(range(0, 256, 8)).hex(),
    ],
)
def test_a_host_takes_no_secret_that_others_could_guess(text: str) -> None:
    with pytest.raises(
        ValueError, match="is no random number, so others could guess it"
    ) as refused:
        given_secret({"MIRAI_EXECUTOR_SECRET": text})
    assert text not in str(refused.value)


@given(st.randoms(use_true_random=True))
def test_a_host_takes_any_secret_that_is_random(random: Random) -> None:
    text = random.randbytes(32).hex()
    assert given_secret({"MIRAI_EXECUTOR_SECRET": text}) == Secret.from_text(text)


def test_the_bytes_on_the_wire_are_those_of_protocol_1() -> None:
    shown = b"c" * 32
    frames = converse(
        HostHandshake(SECRET, HERE, b"h" * 32, shown),
        DaemonHandshake(SECRET.token(7, 3), HERE, b"d" * 32, shown),
    )
    assert [frame.hex() for frame in frames] == GOLDEN
    versions = b"\x03\x0c" + b"0.1.0".ljust(32, b"\0")
    assert frames[0].startswith(b"MIRA\x01\x01\x00" + versions + b"d" * 32)
    assert frames[1].startswith(b"MIRA\x02\x01\x00" + versions + b"h" * 32)
    assert sealed(Sealer(b"k" * 32), b"frame").hex() == GOLDEN_SEALED


def sealed(sealer: Sealer, frame: bytes) -> bytes:
    """Return a frame as it travels."""
    return frame + sealer.seal(frame)


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_sealed_frames_open_in_their_order(frames: list[bytes]) -> None:
    sealer, opener = Sealer(b"k" * 32), Opener(b"k" * 32)
    assert [bytes(opener.open(sealed(sealer, frame))) for frame in frames] == frames


@given(frame=st.binary(max_size=50), data=st.data())
def test_a_sealed_frame_with_any_bit_flipped_does_not_open(
    frame: bytes, data: st.DataObject
) -> None:
    original = sealed(Sealer(b"k" * 32), frame)
    bit = data.draw(st.integers(0, len(original) * 8 - 1))
    changed = bytearray(original)
    changed[bit // 8] ^= 1 << bit % 8
    opener = Opener(b"k" * 32)
    with pytest.raises(ProtocolError, match="frame 0"):
        opener.open(bytes(changed))
    assert opener.open(original) == frame


def test_dropped_repeated_reordered_and_injected_frames_do_not_open() -> None:
    sealer = Sealer(b"k" * 32)
    first, second, third = (sealed(sealer, b"same") for _ in range(3))
    others = {
        "dropped": [second],
        "repeated": [first, first],
        "reordered": [first, third],
        "injected": [first, b"x" * 100],
        "of the other direction": [sealed(Sealer(b"o" * 32), b"same")],
        "cut": [first[:-1]],
        "shorter than a tag": [first[-31:]],
        "empty": [b""],
    }
    for *before, bad in others.values():
        opener = Opener(b"k" * 32)
        for frame in before:
            opener.open(frame)
        with pytest.raises(ProtocolError):
            opener.open(bad)


def test_an_opened_frame_is_not_copied() -> None:
    frame = sealed(Sealer(b"k" * 32), b"payload")
    assert Opener(b"k" * 32).open(frame).obj is frame


def test_the_pieces_of_a_frame_do_not_change_its_seal() -> None:
    whole, pieces = Sealer(b"k" * 32), Sealer(b"k" * 32)
    for _ in range(2):
        assert pieces.seal(b"pay", memoryview(b"lo"), b"ad") == whole.seal(b"payload")
