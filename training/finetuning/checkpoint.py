"""What a fine-tuning run has reached, on disk: a run that is killed goes on from there as if it had not been."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from earshot.logs import get_log
from serving.wholefile import whole_file

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

log = get_log(__name__)


class Checkpoint:
    """State of a compiled Keras model in training, its optimiser and random generators.

    Beside it the average of its weights, and the model as it was at its best; of a run that is over, the model alone.
    """

    def __init__(self, path: Path, model: Any, run: str) -> None:
        """Keep it in the file `path`; `run` says all that decides the run: the state of another is not gone on from."""
        self._path = path
        self._model = model
        self._run = run
        self._sums: list[NDArray[np.float64]] = [np.zeros(one.shape) for one in model.trainable_variables]
        self._averaged = 0
        self.finished = False
        """Nothing is left to do: the model is what the run came to."""
        self._best: list[NDArray[Any]] = []

    def average(self) -> None:
        """Take the weights as they are now into the average."""
        weights = [np.asarray(variable, np.float64) for variable in self._model.trainable_variables]
        self._sums = [total + one for total, one in zip(self._sums, weights, strict=True)]
        self._averaged += 1

    def use_average(self) -> None:
        """Give the model the averaged weights."""
        for variable, total in zip(self._model.trainable_variables, self._sums, strict=True):
            variable.assign(total / self._averaged)

    def mark_best(self) -> None:
        """Remember the model as it is now, in the place of what was remembered before."""
        self._best = [np.asarray(variable).copy() for variable in self._model.variables]

    def use_best(self) -> None:
        """Give the model what `mark_best` remembered."""
        for variable, value in zip(self._model.variables, self._best, strict=True):
            variable.assign(value)

    def keep(self, epochs: int, history: list[dict[str, float]]) -> None:
        """Write the state after `epochs` epochs, whole or not at all."""
        arrays = {f"sum_{number}": one for number, one in enumerate(self._sums)}
        arrays |= {f"best_{number}": one for number, one in enumerate(self._best)}
        self._write(arrays, {"epochs": epochs, "averaged": self._averaged, "best": len(self._best), "history": history})

    def finish(self, history: list[dict[str, float]]) -> None:
        """Write the model as it is now in the place of the state: it is what the run came to."""
        self.finished = True
        self._write({}, {"epochs": len(history), "averaged": 0, "best": 0, "history": history})

    def _write(self, arrays: dict[str, NDArray[Any]], about: dict[str, Any]) -> None:
        arrays |= {f"variable_{number}": np.asarray(one) for number, one in enumerate(self._variables(self.finished))}
        about |= {"run": self._run, "finished": self.finished}
        arrays["about"] = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(self._path) as file:
            np.savez(file, allow_pickle=False, **arrays)

    def restore(self) -> tuple[int, list[dict[str, float]]]:
        """Epochs that are done and their history: none where nothing is kept, or the state of another run."""
        try:
            with np.load(self._path, allow_pickle=False) as arrays:
                about = json.loads(arrays["about"].tobytes())
                if about["run"] != self._run:
                    log.warning("the state kept here is another run's, starting anew", path=str(self._path))
                    return 0, []
                finished = about["finished"]
                values = [arrays[f"variable_{number}"] for number in range(len(self._variables(finished)))]
                sums = [] if finished else [arrays[f"sum_{number}"] for number in range(len(self._sums))]
                best = [arrays[f"best_{number}"] for number in range(about["best"])]
        except FileNotFoundError:
            return 0, []
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            log.warning("the state kept here is broken, starting anew", path=str(self._path), error=str(error))
            return 0, []
        for variable, value in zip(self._variables(finished), values, strict=True):
            variable.assign(value)
        self.finished = finished
        self._sums, self._averaged, self._best = sums, about["averaged"], best
        goes_on = "was finished, and its weights are kept here" if finished else "goes on from the state kept here"
        log.info(goes_on, path=str(self._path), epochs=about["epochs"])
        return about["epochs"], about["history"]

    def _variables(self, finished: bool) -> list[Any]:
        """Everything that is still needed, in a fixed order.

        Of a run that goes on it is all that the next step depends on, the optimiser and the state of random generators
        too.
        """
        return [*self._model.variables, *([] if finished else self._model.optimizer.variables)]
