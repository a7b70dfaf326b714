"""`python -m local`: the commands of `earshot local`."""

from local.commands import app

app(prog_name="python -m local")
