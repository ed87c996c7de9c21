"""What the program may say on standard error where nothing is wrong: a test of exact words compares the rest."""

from __future__ import annotations

import re


def without_notices(error_output: str) -> str:
    """The text without the line about compiling: it comes once per machine, in whichever test compiles first."""
    return re.sub(r"^compiling the kernels for this CPU.*\n", "", error_output, flags=re.MULTILINE)
