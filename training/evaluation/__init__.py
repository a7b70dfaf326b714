"""How good a model is: its answers, what they add up to, and the report."""
