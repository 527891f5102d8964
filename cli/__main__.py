"""`python -m cli`, which is what `./stoker` runs."""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # reading the modules takes a second, and Ctrl-C then shows no traceback

from cli.main import run  # noqa: E402

signal.signal(signal.SIGINT, signal.default_int_handler)
run()
