"""Where every figure in the docs comes from; each runs by itself."""

import serving  # noqa: F401 - before Keras is imported it says what that computes with
