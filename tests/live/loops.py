"""Tasks that need asyncio, which is imported with them: who is interrupted in an import leaves."""

import asyncio
import time
from pathlib import Path


def run_an_event_loop() -> None:
    asyncio.run(asyncio.sleep(600))


def note(path: Path, text: str = "") -> None:
    path.write_text(text)


async def wait_for_ever(begun: Path, ended: Path) -> None:
    """Wait, and say in one file that this has begun, and in the other one how it has ended."""
    note(begun)
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0.01)  # it has time to end in good order
        note(ended, "in order")


async def block(begun: Path, ended: Path) -> None:
    """Do likewise, but without noticing a cancellation."""
    note(begun)
    try:
        time.sleep(3600)  # noqa: ASYNC251 - that is the point
    finally:
        note(ended, "by force")
