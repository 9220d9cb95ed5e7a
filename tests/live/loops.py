"""A task that needs asyncio, which is imported with it: who is interrupted in an import leaves."""

import asyncio


def run_an_event_loop() -> None:
    asyncio.run(asyncio.sleep(600))
