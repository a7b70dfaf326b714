"""The batch job that turns labelled clips into the next version of the model.

Its commands are here: `retrain`, `evaluate`, `distil`, `spectrograms` and `runs`. What they use is in folders: `data`,
what is heard; `heads`, on the features of a frozen network; `finetuning` of the network itself; `teaching` it by sounds
without labels; `evaluation`, how good a model is; and `release`, how it becomes a version. Each uses those before it.
"""

import serving  # noqa: F401 - before Keras is imported it says what that computes with
