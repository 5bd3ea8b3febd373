"""docs/commands.md is what the commands say."""

from __future__ import annotations

from tests.support.reference import PAGE, reference


def test_the_page_of_commands_is_up_to_date():
    found = PAGE.read_text(encoding="utf-8")
    assert found == reference(), "run `python -m tests.support.reference`"
