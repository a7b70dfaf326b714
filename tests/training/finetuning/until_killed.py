"""Fine-tuning as the tests do it, in a process that dies where it is told to, or ends and keeps its weights.

python -m tests.training.finetuning.until_killed WEIGHTS FOLDER OUT [EPOCH STEP]
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np

from tests.training.finetuning.conftest import others, tune, two_classes, values
from training.finetuning.learner import _Learner
from training.weights import load_weights

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Begin, or go on from what FOLDER has."""
    weights, folder, out, *dies_at = sys.argv[1:]
    run_epoch = _Learner.run_epoch

    def dying(self: _Learner, epoch: int, after_step: Callable[[], None]) -> dict[str, float]:
        steps = itertools.count()

        def dies() -> None:
            if [epoch, next(steps)] == list(map(int, dies_at)):
                os.kill(os.getpid(), signal.SIGKILL)
            after_step()

        return run_epoch(self, epoch, dies)

    examples = two_classes()
    with patch.object(_Learner, "run_epoch", dying):
        learnt = tune(examples, load_weights(weights), Path(folder), validation=others(examples))
    np.savez(out, *values(learnt))


if __name__ == "__main__":
    main()
