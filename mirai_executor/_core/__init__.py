"""The scheduling core: pure, deterministic, and the only owner of task state."""

from mirai_executor._lazily import lazy_imports

from .messages import *

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._invariants import THIS_IS_A_BUG as THIS_IS_A_BUG
    from .admission import *
    from .chunking import *
    from .dispatcher import *
    from .scaling import *
else:
    __getattr__ = lazy_imports(
        __name__,
        {
            "_invariants": "THIS_IS_A_BUG",
            "chunking": "Paces chunk_size",
            "admission": "Admission WaitingCall",
            "dispatcher": "Dispatcher",
            "scaling": "Change Load ScalePolicy Scaler",
        },
    )
