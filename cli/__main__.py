"""`python -m cli`, which is what `./stoker` runs."""

from cli.main import run

run()
