"""Fine-tuning as the tests do it, in a process that dies where it is told to, or ends and keeps its weights.

python -m tests.training.finetuning.until_killed WEIGHTS FOLDER OUT [EPOCH STEP]
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np

from tests.training.finetuning.conftest import others, tune, two_classes, values
from training.finetuning.finetune import _Labelled
from training.weights import load_weights

if TYPE_CHECKING:
    from training.finetuning.learner import Batch


def main() -> None:
    """Begin, or go on from what FOLDER has."""
    weights, folder, out, *dies_at = sys.argv[1:]
    batch = _Labelled.batch

    def dying(self: _Labelled, epoch: int, step: int) -> Batch:
        if [epoch, step] == list(map(int, dies_at)):
            os.kill(os.getpid(), signal.SIGKILL)
        return batch(self, epoch, step)

    examples = two_classes()
    with patch.object(_Labelled, "batch", dying):
        learnt = tune(examples, load_weights(weights), Path(folder), validation=others(examples))
    np.savez(out, *values(learnt))


if __name__ == "__main__":
    main()
