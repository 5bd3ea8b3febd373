"""`alpaca`, also as `python -m alpaca_labeler`."""

import os
import signal
import sys

_interrupt = signal.getsignal(signal.SIGINT)
if _interrupt is signal.default_int_handler:
    # Until there is something to stop, Ctrl-C ends the process, without a traceback of imports.
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
        except OSError:  # said above; Python would try once more, and complain
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    run()
