"""Has a daemon and a stranger dial a host, and draws who proves what as ``security.svg``.

    python docs/pictures/security.py

Above, who is there, and who has the secret of an executor, or a token that is made from it. Below,
the frames by which they prove it: those of a real conversation.
"""

from pathlib import Path

from mirai_executor.credentials import (
    DaemonHandshake,
    HostHandshake,
    PeerVersion,
    WrongSecretError,
    new_secret,
)

HERE = Path(__file__).parent
KINDS = {1: "Hello", 2: "Challenge", 3: "Proof", 4: "Welcome", 5: "Refused"}
Frame = tuple[str, str]  # who sends it, and its name


def name_of(frame: bytes) -> str:
    return KINDS[frame[4]]


def conversation(*, with_token: bool) -> list[Frame]:
    """Return what a host and somebody who dials it say to each other, to the end."""
    secret, peer = new_secret(), PeerVersion((3, 12), "0.1.0")
    token = secret.new_token() if with_token else new_secret().new_token()
    host, caller = HostHandshake(secret, peer), DaemonHandshake(token, peer)
    said, frames = caller.hello(), list[Frame]()
    while True:
        frames.append(("caller", name_of(said)))
        try:
            reply = host.receive(said)
        except WrongSecretError as error:
            return [*frames, ("host", name_of(error.reply or b""))]
        frames.append(("host", name_of(reply)))
        answer = caller.receive(reply)
        if answer is None:
            return frames
        said = answer


# --- the drawing: narrow, so that it can be read on a telephone

WIDTH = 560  # pixels
SECRET, TOKEN, NONE, BAD = "#3b7dd8", "#2f8f6b", "#4a5260", "#c0392b"
SMALL = 'font-size="13.5"'


def text(x: float, y: float, words: str, more: str = SMALL) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" {more}>{words}</text>'


def card(y: int, height: int, title: str) -> list[str]:
    """A machine."""
    return [
        f'<rect x="12" y="{y}" width="{WIDTH - 24}" height="{height}" rx="8" fill="white" '
        'stroke="#d9dde3"/>',
        text(WIDTH - 26, y + 22, title, 'font-size="13.5" fill="#6b7280" text-anchor="end"'),
    ]


def box(x: int, y: int, width: int, colour: str, title: str, *lines: str) -> list[str]:
    """A process: its name, and what it has."""
    height = 32 + 18 * len(lines)
    return [
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="5" fill="{colour}"/>',
        text(x + 12, y + 23, title, 'font-size="15" font-weight="600" fill="white"'),
        *[
            text(x + 12, y + 43 + 18 * n, line, f'{SMALL} fill="white"')
            for n, line in enumerate(lines)
        ],
    ]


def arrow(x1: int, y1: int, x2: int, y2: int, colour: str = NONE) -> str:
    return (
        f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}" stroke-width="2" '
        f'marker-end="url(#tip{colour[1:]})"/>'
    )


def tip(colour: str) -> str:
    return (
        f'<marker id="tip{colour[1:]}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="5" '
        f'markerHeight="5" orient="auto"><path d="M0 0L8 4L0 8z" fill="{colour}"/></marker>'
    )


def who_is_there() -> list[str]:
    middle = 'font-size="13.5" text-anchor="middle"'
    return [
        *card(12, 222, "Your machine"),
        *card(338, 148, "Another machine"),
        *box(26, 46, 220, SECRET, "host: your program", "has the secret"),
        *box(338, 46, 196, NONE, "local daemons", "no secret, no address"),
        arrow(248, 71, 336, 71),
        text(292, 62, "inherited", middle),
        text(292, 90, "pipes", middle),
        *box(26, 154, 164, TOKEN, "a launcher", "ssh, sbatch, kubectl"),
        arrow(86, 98, 86, 152, TOKEN),
        text(98, 130, "a token"),
        text(244, 146, "A token is made from the secret, which"),
        text(244, 166, "nobody can find out from it. It admits"),
        text(244, 186, "the daemons of one launch, and is"),
        text(244, 206, "in no command line."),
        # the way there, and back
        arrow(86, 206, 86, 368, TOKEN),
        text(98, 284, "the token"),
        arrow(220, 368, 220, 98, SECRET),
        text(232, 276, "dials, and"),
        text(232, 294, "both prove it"),
        *box(346, 246, 188, BAD, "strangers", "have no token: refused,", "nothing is unpickled"),
        *box(26, 370, 220, TOKEN, "a keeper", "has the token"),
        *box(338, 370, 196, NONE, "its daemon, its tasks", "are given neither"),
        arrow(248, 395, 336, 395),
        text(292, 386, "inherited", middle),
        text(292, 414, "pipes", middle),
        text(26, 448, "Your program, daemons and tasks trust each other: they run as your"),
        text(26, 468, "user, and unpickle what the other has sent."),
    ]


SAYS = {
    "Hello": "names a token, and is to prove it",
    "Challenge": "proves it for this Hello",
    "Proof": "proves it for this Challenge",
    "Welcome": "only now is anything unpickled",
    "Refused": "that proved nothing: the host hangs up",
}


def how_they_prove_it(top: int, conversations: dict[str, list[Frame]]) -> tuple[list[str], int]:
    """Return a column for each side, and an arrow for each frame between them."""
    parts, y = [], top
    left, right = 40, WIDTH - 40
    for caller, frames in conversations.items():
        parts.append(text(left - 14, y, caller, 'font-size="15" font-weight="600"'))
        parts.append(
            text(right + 14, y, "host", 'font-size="15" font-weight="600" text-anchor="end"')
        )
        parts += [
            f'<line x1="{at}" y1="{y + 10}" x2="{at}" y2="{y + 22 + 40 * len(frames)}" '
            'stroke="#b6bcc6" stroke-width="2"/>'
            for at in (left, right)
        ]
        for sender, name in frames:
            y += 40
            colour = BAD if name == "Refused" else NONE
            ends = (left + 3, right - 3) if sender == "caller" else (right - 3, left + 3)
            parts.append(arrow(ends[0], y + 4, ends[1], y + 4, colour))
            words = f'<tspan font-weight="600" class="frame">{name}</tspan> {SAYS[name]}'
            parts.append(text(WIDTH / 2, y - 4, words, f'{SMALL} text-anchor="middle"'))
        y += 60
    return parts, y


def draw(conversations: dict[str, list[Frame]]) -> str:
    frames, height = how_they_prove_it(522, conversations)
    notes = [
        "Each frame has an HMAC of all frames so far: what is repeated, sent",
        "back or changed proves nothing. Both also name the certificate of TLS.",
        "Who stands between them can cut the line, and without TLS also listen.",
    ]
    parts = [*who_is_there(), *frames]
    parts += [text(26, height + 20 * n, note) for n, note in enumerate(notes)]
    height += 20 * len(notes)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" role="img"',
            '  aria-label="Who has the secret or a token, and how host and daemon prove it"',
            '  font-family="system-ui, sans-serif" fill="#1f2430">',
            f"<defs>{''.join(map(tip, (SECRET, TOKEN, NONE, BAD)))}</defs>",
            f'<rect width="{WIDTH}" height="{height}" rx="10" fill="#f7f8fa"/>',
            *parts,
            "</svg>\n",
        ]
    )


def conversations() -> dict[str, list[Frame]]:
    return {
        "keeper of a daemon": conversation(with_token=True),
        "stranger": conversation(with_token=False),
    }


if __name__ == "__main__":
    (HERE / "security.svg").write_text(draw(conversations()))
