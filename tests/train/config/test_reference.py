"""`docs/configuration.md` lists every key, with type, default and description, as the schema has it."""

from __future__ import annotations

import re
from pathlib import Path

from allgrad.train.config import json_schema, reference

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run `allgrad config --reference > docs/configuration.md`"


def test_every_key_of_every_section_and_component_is_described() -> None:
    undescribed = [
        f"{section}.{key}"
        for section, content in json_schema()["$defs"].items()
        for key, part in content.get("properties", {}).items()
        if not part.get("description")
    ]
    assert undescribed == []


def test_the_page_has_no_empty_description() -> None:
    rows = re.findall(r"^\| `.*$", reference(), re.MULTILINE)
    assert len(rows) > 100
    assert [row for row in rows if row.endswith("|  |")] == []
