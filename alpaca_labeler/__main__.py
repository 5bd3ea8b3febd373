"""`alpaca`, also as `python -m alpaca_labeler`."""

import signal

_interrupt = signal.getsignal(signal.SIGINT)
if _interrupt is signal.default_int_handler:
    # Until there is something to stop, Ctrl-C ends the process, without a traceback of imports.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from alpaca_labeler.main import main  # noqa: E402


def run() -> None:
    """Run the command."""
    signal.signal(signal.SIGINT, _interrupt)
    main(prog_name="alpaca")


if __name__ == "__main__":
    run()
