"""Set-up, and what writes parts of the docs."""
