"""`alpaca`, also as `python -m alpaca_labeler`."""

import os
import signal
import sys

_interrupt = signal.getsignal(signal.SIGINT)
if _interrupt is signal.default_int_handler:
    # Ctrl-C during the imports below ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from alpaca_labeler.main import main  # noqa: E402


def run() -> None:
    """Run the command."""
    signal.signal(signal.SIGINT, _interrupt)
    try:
        main(prog_name="alpaca")
    except OSError as error:  # help or the version could not be written
        sys.exit(f"Error: {error.strerror}")
    finally:
        try:
            sys.stdout.flush()
        except OSError:  # already reported; else Python would retry at exit, and complain
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    run()
