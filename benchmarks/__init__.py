"""Where every figure in the docs comes from; each runs by itself."""
