"""What peers say, as it is shown."""

from hypothesis import given
from hypothesis import strategies as st

from mirai_executor._texts import hide, printable


@given(st.text(max_size=300))
def test_no_text_ends_a_line_or_commands_a_terminal(text: str) -> None:
    shown = printable(text, 100)
    assert shown.isprintable()
    assert len(shown) <= 101
    assert printable(shown, 101) == shown


def test_a_text_that_can_be_shown_is_shown_as_it_is() -> None:
    assert printable("ein Knoten: ß, 節点") == "ein Knoten: ß, 節点"
    assert printable("one\n\ttwo\x1b[2J\udc80", keep="\n\t") == "one\n\ttwo\\x1b[2J\\udc80"
    assert printable("x" * 1000) == "x" * 255 + "…"


def test_what_is_confidential_is_hidden_whole() -> None:
    assert hide("a token, a tok, a to", ["", "tok", "token"]) == "a ***, a ***, a to"
