"""The batch job that turns labelled clips into the next version of the model."""
