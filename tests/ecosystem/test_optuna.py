"""The loop of the page about optuna, with trials that fail in ways of their own."""

from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from docs.test_examples import examples_of
from live.mischief import square_unless_extreme
from mirai_executor import MiraiExecutor

PAGE = Path(__file__).parents[2] / "docs/ecosystem/optimizing.md"
LIMIT = 2.0  # seconds; enough for the others on a busy machine


def test_a_trial_that_crashes_or_hangs_fails_alone() -> None:
    [code] = [example.code for example in examples_of(PAGE) if "def optimise" in example.code]
    study = optuna.create_study()
    for x in (1.0, 4.0, 2.0, -4.0, 3.0):
        study.enqueue_trial({"x": x})
    with MiraiExecutor(2) as executor:
        for warm in executor.everywhere(square_unless_extreme, 1.0):
            warm.result()  # what it takes to import counts for no trial
        page: dict[str, Any] = {"executor": executor.with_options(run_timeout=LIMIT)}
        exec(code.partition("\n\n\nstudy =")[0], page)
        page["optimise"](study, square_unless_extreme, trials=5, at_once=2)
    values = {trial.params["x"]: trial.value for trial in study.trials}
    assert values == {1.0: 1.0, 2.0: 4.0, 3.0: 9.0, 4.0: None, -4.0: None}
    assert [trial.state for trial in study.trials].count(TrialState.FAIL) == 2
