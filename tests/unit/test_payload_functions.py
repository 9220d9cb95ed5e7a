"""Every kind of function, class and value of a ``__main__`` arrives, works, and comes back."""

import ast
from collections.abc import Mapping

import pytest

from unit.test_payload_driver import run_host

# Each case is a function of a script; it returns what should be True.
CASES = '''
import abc, asyncio, collections, contextlib, dataclasses, enum, functools, operator, random, sys, re
import typing, types, weakref, logging, io, decimal, datetime, fractions, pathlib, uuid
import concurrent.futures
try: import numpy as np
except ImportError: np = None
T = typing.TypeVar("T")
P = typing.ParamSpec("P")
UserId = typing.NewType("UserId", int)
CASES = {}
def case(fn):
    CASES[fn.__name__] = fn
    return fn

def plain(a, b=2, *args, c, d=4, **kw): return a, b, args, c, d, kw
@case
def defaults_and_keywords(d):
    return d.call(plain, 1, 5, 6, c=3, e=7) == (1, 5, (6,), 3, 4, {"e": 7})

def annotated(x: "UserId", y: T = None) -> typing.Optional[T]: "the doc"
@case
def annotations_and_docs(d):
    def look(f): return f.__annotations__, f.__doc__, f.__name__, f.__qualname__, f.__module__
    return d.call(look, annotated)[1:] == look(annotated)[1:]

@case
def lambdas_and_closures(d):
    n = 3
    return d.call(lambda x: x + n, 1) == 4 and d.call(lambda: (lambda: n * 2)()) == 6

@case
def closures_that_hold_each_other(d):
    def even(n): return n == 0 or odd(n - 1)
    def odd(n): return n != 0 and even(n - 1)
    def fact(n): return 1 if n == 0 else n * fact(n - 1)
    return d.call(even, 8) and d.call(fact, 5) == 120

@case
def two_closures_that_share_a_variable(d):
    n = 0
    def up():
        nonlocal n
        n += 1
    def get(): return n
    def run(a, b):
        a(); a()
        return b()
    return d.call(run, up, get) == 2 and n == 0

@case
def an_empty_cell(d):
    def outer():
        if False: missing = 1
        def inner():
            try: return missing
            except NameError: return "empty"
        return inner
    return d.call(outer()) == "empty"

@case
def a_cell_by_itself(d):
    n = 5
    f = lambda: n
    return d.call(lambda c: c.cell_contents, f.__closure__[0]) == 5

def traced(fn):
    @functools.wraps(fn)
    def wrapper(*args): return "traced", fn(*args)
    return wrapper
@traced
def decorated(x): return x + 1
@case
def a_decorated_function(d):
    return d.call(decorated, 1) == ("traced", 2) and d.call(lambda: decorated.__wrapped__(1)) == 2

@functools.lru_cache(maxsize=None)
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
@case
def a_cached_function(d):
    local = functools.lru_cache(lambda x: x + 1)
    size = d.call(lambda: (fib(20), fib.cache_info().maxsize))
    return size == (6765, None) and d.call(local, 1) == 2

@functools.singledispatch
def kind(x): return "object"
@kind.register
def _(x: int): return "int"
@kind.register(list)
def _(x): return "list of " + kind(x[0])
@case
def a_dispatched_function(d):
    kind(1)
    return (d.call(kind, 1), d.call(kind, ""), d.call(kind, [1])) == ("int", "object", "list of int")

class Methods:
    k = 10
    def __init__(self, n): self.n = n
    def bound(self, x): return self.n + x
    @classmethod
    def of(cls, n): return cls(n)
    @staticmethod
    def static(x): return x * 2
    @property
    def double(self): return self.n * 2
    @double.setter
    def double(self, value): self.n = value // 2
    @functools.cached_property
    def cached(self): return self.n + self.k
    @functools.singledispatchmethod
    def kind(self, x): return "object"
    @kind.register
    def _(self, x: int): return "int"
@case
def methods_of_every_kind(d):
    m = Methods(1)
    def use(m):
        m.double = 8
        return m.n, m.double, m.cached, m.kind(1), m.kind("")
    results = d.call(m.bound, 2), d.call(Methods.of, 3).n, d.call(Methods.static, 4), d.call(m.static, 5)
    return results == (3, 3, 8, 10) and d.call(use, m) == (4, 8, 14, "int", "object")

@case
def functions_of_modules(d):
    return (
        d.call(functools.partial(plain, 1, c=2)) == (1, 2, (), 2, 4, {})
        and d.call(operator.itemgetter(1), "ab") == "b" and d.call([3, 1].index, 1) == 1
        and d.call(str.upper, "a") == "A" and d.call(dict.fromkeys, "a") == {"a": None}
        and d.call("{}".format, 1) == "1" and d.call(random.Random(1).random) == random.Random(1).random()
    )

class Base(abc.ABC):
    @abc.abstractmethod
    def f(self): ...
class Derived(Base):
    def f(self): return "f"
@Base.register
class Virtual: pass
@case
def abstract_classes(d):
    def refuses():
        try: Base()
        except TypeError: return True
    def virtual(): return issubclass(Virtual, Base)
    return d.call(refuses) and d.call(virtual) and d.call(Derived().f) == "f"

class Stack(typing.Generic[T]):
    def __init__(self, *items: T): self.items = items
    def top(self) -> T: return self.items[-1]
class IntStack(Stack[int]): pass
class Proto(typing.Protocol):
    def top(self): ...
@case
def generics(d):
    return (
        d.call(IntStack(1, 2).top) == 2 and d.call(Stack[int], 1).top() == 1
        and d.call(lambda: IntStack.__orig_bases__ == (Stack[int],)) and d.call(lambda: T) is T
        and d.call(lambda: UserId(3)) == 3 and d.call(lambda: UserId) is UserId and d.call(lambda: P) is P
        and d.call(lambda: typing.Optional[Stack[T]]) == typing.Optional[Stack[T]]
    )

class Colour(enum.Enum):
    RED = 1
    BLUE = "b"
    @property
    def shout(self): return self.name + "!"
class Number(enum.IntEnum):
    ONE = 1
class Perm(enum.IntFlag):
    R = 4
    W = 2
@case
def enums(d):
    def look(c): return c is Colour.RED, c.shout, Colour("b") is Colour.BLUE, {Colour.RED: 1}[c]
    return (
        d.call(look, Colour.RED) == (True, "RED!", True, 1) and d.call(lambda: Number.ONE + 1) == 2
        and d.call(lambda: Perm.R | Perm.W) is (Perm.R | Perm.W)
    )

@case
def local_enums(d):
    class Local(enum.Enum):
        A = 1
    return d.call(lambda: Local.A) is Local.A and d.call(lambda x: x is Local.A, Local.A)

@dataclasses.dataclass(order=True)
class Point:
    x: int
    y: list = dataclasses.field(default_factory=list)
    z: typing.ClassVar[int] = 3
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Slotted:
    a: int = 1
Tuple = collections.namedtuple("Tuple", "a b")
class Typed(typing.NamedTuple):
    a: int = 1
    def up(self): return self.a + 1
class Dict(typing.TypedDict):
    a: int
@case
def data_classes_and_tuples(d):
    def use():
        return Point(1, [2]), Slotted(a=2), Tuple(1, 2), Typed(3).up(), Dict(a=1), dataclasses.asdict(Point(5))
    return d.call(use) == use() and d.call(dataclasses.replace, Point(1), x=2) == Point(2)

class WithSlots:
    __slots__ = ("a", "__weakref__")
    def __init__(self, a): self.a = a
class Meta(type):
    def __call__(cls, *args):
        made = super().__call__(*args)
        made.seen = True
        return made
class WithMeta(metaclass=Meta): pass
@case
def slots_and_metaclasses(d):
    return d.call(lambda: WithSlots(3)).a == 3 and d.call(lambda: WithMeta().seen)

@case
def local_classes_that_call_super(d):
    class A:
        def f(self): return ["A"]
    class B(A):
        def f(self): return [*super().f(), __class__.__name__]
        def again(self): return B
    got = d.call(B().again)
    return d.call(B().f) == ["A", "B"] and got is B

class Singleton:
    def __reduce__(self): return "ONLY"
ONLY = Singleton()
@case
def singletons_that_reduce_to_their_name(d):
    return d.call(lambda x: (x is ONLY, x), ONLY) == (True, ONLY)

async def coroutine(x):
    await asyncio.sleep(0)
    return x + 1
def generator(n): yield from range(n)
@case
def asynchronous_functions_and_generators(d):
    return d.call(lambda: asyncio.run(coroutine(1))) == 2 and d.call(lambda: list(generator(3))) == [0, 1, 2]

@contextlib.contextmanager
def manager():
    yield 3
@case
def context_managers(d):
    def use():
        with manager() as m: return m
    return d.call(use) == 3

@case
def functions_come_back(d):
    def make(n):
        def add(x): return x + n + OFFSET
        return add
    return d.call(make, 3)(1) == 104 and d.call(lambda: plain) is plain and d.call(lambda: lambda: OFFSET)() == 100
OFFSET = 100

@case
def modules_and_numpy(d):
    if np is None: return True
    return (
        d.call(lambda: np.arange(3).sum()) == 3 and d.call(np.add, 1, 2) == 3 and d.call(np.sum, [1, 2]) == 3
        and d.call(lambda m: m.floor(1.5), __import__("math")) == 1 and d.call(lambda: np) is np
        and d.call(np.vectorize(lambda x: x + OFFSET), [1]).tolist() == [101]
    )

@case
def values_of_many_types(d):
    values = [
        1, 1.5, 1j, "a", b"b", None, True, ..., NotImplemented, {1, 2}, frozenset({3}), {"a": [1]}, (1,), range(3),
        slice(1, 2), bytearray(b"c"), decimal.Decimal("1.1"), fractions.Fraction(1, 3), datetime.date(2020, 1, 1),
        pathlib.Path("a"), uuid.UUID(int=1), collections.OrderedDict(a=1), collections.Counter("aa"),
        collections.deque([1], 3), re.compile("a"), type(None), types.FunctionType, int, list[int], int | None,
        types.SimpleNamespace(a=1), 2 ** 100, "x" * 1000, logging.getLogger("a.b"),
    ]
    return d.call(lambda v: v, values) == values

@case
def a_value_that_holds_itself(d):
    loop = [1]
    loop.append(loop)
    got = d.call(lambda x: x, loop)
    return got[1] is got

@case
def the_standard_streams(d):
    return d.call(lambda f: f is sys.stderr, sys.stderr)

@case
def weak_collections(d):
    class Key: pass
    k = Key()
    held = weakref.WeakKeyDictionary({k: 1})
    return d.call(lambda held, k: held[k], held, k) == 1

class Node:
    def __init__(self, n): self.n, self.friends = n, []
    def __eq__(self, other): return self.n == other.n
    def __hash__(self): return hash(self.n)
@case
def objects_in_a_cycle(d):
    a, b = Node(1), Node(2)
    a.friends.append(b); b.friends.append(a)
    got = d.call(lambda n: n.friends[0].friends[0] is n, a)
    return got and d.call(lambda: a).friends[0].friends[0].n == 1

class KeywordError(Exception):
    def __init__(self, *, code): super().__init__("text"); self.code = code
@case
def an_exception_is_a_value(d):
    got = d.call(lambda e: [e], KeywordError(code=3))[0]
    return type(got) is KeywordError and got.code == 3 and got.__traceback__ is None and got.__cause__ is None

@case
def a_nameless_module(d):
    module = types.ModuleType("nowhere")
    exec("X = 1\\ndef f(): return X", module.__dict__)
    return d.call(lambda: module.X) == 1 and d.call(module.f) == 1

@case
def code_executed_in_a_dict(d):
    names = {"__name__": "elsewhere"}
    exec("K = 1\\ndef f(): return g() + K\\ndef g(): return 10\\nclass C:\\n    def m(self): return f()", names)
    first = d.call(names["f"]), d.call(names["C"]().m)
    names["K"] = 2
    return first == (11, 11) and d.call(names["f"]) == 12

if sys.version_info >= (3, 12):
    exec("""
type Alias = list[int]
class New[A]:
    def get(self, x: A) -> A: return x
def generic[B](x: B) -> B: return x
@case
def type_parameters(d):
    def local[C](x: C): return x
    return (
        d.call(New[int]().get, 1) == 1 and d.call(generic, 2) == 2 and d.call(lambda: Alias) is Alias
        and d.call(local, 3) == 3 and d.call(lambda f: len(f.__type_params__), generic) == 1
    )
""")
else:
    @case
    def type_parameters(d): return True

if __name__ == "__main__":
    import warnings
    warnings.simplefilter("error")
    results = {}
    for name, function in CASES.items():
        with Daemon() as d:
            try: results[name] = repr(function(d))
            except Exception as error: results[name] = "".join(__import__("traceback").format_exception(error))
    print(results)
'''  # noqa: E501 - cases read best in a line each

NAMES = [
    line.removeprefix("def ").partition("(")[0]
    for before, line in zip(CASES.splitlines(), CASES.splitlines()[1:], strict=False)
    if before == "@case"
]


@pytest.fixture(scope="module")
def results() -> Mapping[str, str]:
    found: dict[str, str] = ast.literal_eval(run_host(CASES))
    assert found.keys() == set(NAMES)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_it_arrives_and_works(name: str, results: Mapping[str, str]) -> None:
    assert results[name] == "True", results[name]
