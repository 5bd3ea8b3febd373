"""`python -m alpaca_labeler` is the `alpaca` command."""

from alpaca_labeler.main import main

main(prog_name="alpaca")
