"""The daemon process: receives calls, runs them, answers, and cleans up behind them."""

from ._main import main as main
from ._main import serve as serve
