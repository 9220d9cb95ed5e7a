"""What scripts with a guard register with other libraries, at daemons as in children of spawn."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from live.hosts import printed_by

PATIENCE = 120.0  # seconds that no passing test waits
PROGRAM = """
import functools, json, multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import Optional

import msgspec
import pandas as pd
import pydantic
from sqlalchemy import ForeignKey, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from mirai_executor import MiraiExecutor

pd.options.display.precision = 3
limit = 1

@pd.api.extensions.register_dataframe_accessor("ours")
class Ours:
    def __init__(self, frame): self.frame = frame
    def total(self): return int(self.frame.to_numpy().sum())

@pd.api.extensions.register_series_accessor("mine")
class Mine:
    def __init__(self, series): self.series = series
    def doubled(self): return (self.series * 2).tolist()

class Base(DeclarativeBase): pass

class User(Base):
    __tablename__ = "user"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    notes: Mapped[list["Note"]] = relationship(back_populates="user")

class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    text: Mapped[Optional[str]]
    user: Mapped[User] = relationship(back_populates="notes")

ENGINE = create_engine("sqlite://")

class Point(msgspec.Struct, frozen=True):
    x: int
    y: "int" = 2

DECODER = msgspec.json.Decoder(Point)

class Model(pydantic.BaseModel):
    n: int
    point: "Optional[Model]" = None

def accessor(frame): return frame.ours.total()
def accessor_of_a_series(frame): return frame.x.mine.doubled()
def query(frame): return frame.query("x > @limit").x.tolist()
def query_by_a_function(frame): return frame.query("@is_odd(x)").x.tolist()
def is_odd(x): return x % 2 == 1
def evaluated(frame): return frame.eval("x + @limit").tolist()
def precision(): return pd.get_option("display.precision")
def applied(frame): return frame.groupby("y").x.apply(lambda it: int(it.sum()) + limit).tolist()
def database():
    Base.metadata.create_all(ENGINE)
    with Session(ENGINE) as session:
        session.add(User(id=1, name="a", notes=[Note(text="n")]))
        session.commit()
        return [(user.name, user.notes[0].text) for user in session.scalars(select(User))]
def mapped(user): return user.name, isinstance(user, User), [note.text for note in user.notes]
def structure(point): return point.x + point.y, isinstance(point, Point), point == Point(5)
def decoded(text): return isinstance(DECODER.decode(text), Point), DECODER.decode(text).y
def model(it): return it.model_dump(), isinstance(it, Model)
def models(): return Model(n=1, point={"n": "2"}).model_dump()

FRAME = pd.DataFrame({"x": [1, 2, 3], "y": [4, 4, 5]})
CALLS = [
    (accessor, FRAME), (accessor_of_a_series, FRAME), (query, FRAME), (evaluated, FRAME),
    (query_by_a_function, FRAME), (precision,), (applied, FRAME), (database,),
    (mapped, User(name="b", notes=[Note(text="m")])), (structure, Point(5)),
    (decoded, b'{"x": 1}'), (model, Model(n=1)), (models,),
]

if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    found = {call[0].__name__: [] for call in CALLS}
    for make in (functools.partial(ProcessPoolExecutor, mp_context=spawn), MiraiExecutor):
        with make(1) as executor:
            for call in CALLS:
                future = executor.submit(*call)
                found[call[0].__name__].append(repr(future.exception() or future.result()))
    print(json.dumps(found))
"""
EXPECTED = {
    "accessor": "19",
    "accessor_of_a_series": "[2, 4, 6]",
    "query": "[2, 3]",
    "evaluated": "[2, 3, 4]",
    "query_by_a_function": "[1, 3]",
    "precision": "3",
    "applied": "[4, 4]",
    "database": "[('a', 'n')]",
    "mapped": "('b', True, ['m'])",
    "structure": "(7, True, True)",
    "decoded": "(True, 2)",
    "model": "({'n': 1, 'point': None}, True)",
    "models": "{'n': 1, 'point': {'n': 2, 'point': None}}",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """What each function returned, in a child of spawn and at a daemon."""
    folder = tmp_path_factory.mktemp("script")
    results: dict[str, Any] = json.loads(printed_by(folder, PROGRAM, patience=PATIENCE))
    assert results.keys() == EXPECTED.keys()
    return results


@pytest.mark.parametrize("kind", EXPECTED)
def test_a_daemon_has_what_a_script_registers_as_a_child_of_spawn_has(
    kind: str, found: Mapping[str, Any]
) -> None:
    assert found[kind] == [EXPECTED[kind]] * 2
