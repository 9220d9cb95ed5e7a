"""Maps of short elements that fail, crash, linger and are cancelled at random, chunk by chunk."""

import os
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mirai_executor import MiraiExecutor, MiraiMap

KINDS = ("raises", "list", "crashes", "lingers", "none", "never arrives")
WAYS = ("collect", "progress", "iterate", "as_completed", "await")


class NeverArrives:
    """Can be unpickled where it was made only."""

    def __reduce__(self) -> Any:
        return refuse, (os.getpid(),)


def refuse(pid: int) -> None:
    if pid != os.getpid():
        raise OSError("made elsewhere")


def act(element: tuple[int, str, Path]) -> Any:
    """Do what an element is to do, and note that it has run."""
    place, kind, tally = element
    fd = os.open(tally, os.O_WRONLY | os.O_APPEND)
    os.write(fd, f"{place}\n".encode())
    os.close(fd)
    match kind:
        case "raises":
            raise ValueError(place)
        case "crashes":
            os._exit(3)
        case "lingers":
            time.sleep(0.03)  # its chunk is cut off
        case "list":
            return [place]
        case "none":
            return None
        case "never arrives":
            return NeverArrives()
        case _:
            pass
    return place


def storm(executor: "MiraiExecutor", folder: Path, *, rounds: "Iterable[int]", seed: int) -> None:
    """Make maps; check that each element has one end, which is its own, and runs once at most."""
    from mirai_executor._core import Paces
    from mirai_executor._host import kind_of
    from mirai_executor._maps import _chunks

    dice = random.Random(seed)
    kind = kind_of(act, ())
    for number in rounds:
        # They count as short, whether they are or not.
        _chunks._known.setdefault(executor._host, Paces()).note(kind, dice.choice([1e-6, 2e-5]))
        tally = (
            folder / f"tally-{number}"
        )  # of its own: a cancelled element may run a little longer
        tally.touch()
        share = dice.choice([0, 0, 0.02, 0.1])
        kinds = [
            dice.choice(KINDS) if dice.random() < share else "plain"
            for _ in range(dice.choice([1, 5, 40, 300]))
        ]
        elements = [(place, kind, tally) for place, kind in enumerate(kinds)]
        ends = executor.mirai_map(elements, act)
        meddlers = [
            threading.Thread(target=meddle, args=(ends, random.Random(dice.random())))
            for _ in range(dice.choice([0, 0, 1, 2]))
        ]
        for meddler in meddlers:
            meddler.start()
        wait_for(ends, dice.choice(WAYS))
        for meddler in meddlers:
            meddler.join()
        check(ends, kinds, tally)
        tally.unlink()


def meddle(ends: "MiraiMap[Any]", dice: random.Random) -> None:
    """Ask for futures, look at elements and cancel some."""
    while (choice := dice.random()) < 0.95:
        future = ends._futures[dice.randrange(len(ends))]
        if choice < 0.2:
            future.cancel()
        elif choice < 0.4:
            getattr(future, "cancel_queued")()  # noqa: B009 - all of them are ours
        elif choice < 0.42:
            ends.cancel()
        elif choice < 0.6:
            ends.failed()
        else:
            repr(ends)


def wait_for(ends: "MiraiMap[Any]", way: str) -> None:
    import asyncio
    from concurrent.futures import CancelledError

    from mirai_executor import as_completed

    async def take() -> None:
        await ends

    try:
        if way == "progress":
            told: list[int] = []
            ends.collect(stop=False, progress=lambda done, _: told.append(done))
            assert told == [*range(1, len(ends) + 1)]
        elif way == "iterate":
            list(ends)
        elif way == "as_completed":
            assert len(list(as_completed(ends))) == len(ends)
        elif way == "await":
            asyncio.run(take())
        else:
            ends.collect()
    except AssertionError:
        raise
    except (Exception, CancelledError, asyncio.CancelledError):
        pass  # it is looked at later


def check(ends: "MiraiMap[Any]", kinds: list[str], tally: Path) -> None:
    from concurrent.futures import CancelledError

    from mirai_executor import DaemonLostError

    for place, end in enumerate(ends.collect(stop=False)):
        if isinstance(end, (CancelledError, DaemonLostError)):
            continue
        expected = {"list": [place], "none": None}.get(kinds[place], place)
        match kinds[place]:
            case "raises":
                assert isinstance(end, ValueError)
            case "crashes":
                raise AssertionError(f"{place} has not crashed but ended in {end!r}")
            case "never arrives":
                assert isinstance(end, Exception)
            case _:
                assert end == expected
    assert ends.done()
    assert set(Counter(tally.read_text().split()).values()) <= {1}
