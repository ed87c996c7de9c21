"""Print a configuration as a run would see it: extended, interpolated, overridden, checked, every key written out.

With --schema, print the JSON schema of such files instead, for an editor's completion.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from allgrad.cli.errors import UsageError

if TYPE_CHECKING:
    import argparse

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `allgrad config`."""
    parser.add_argument("config", metavar="CONFIG", nargs="?", help="a YAML file")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="what is changed in it")
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE", help="Python file that registers parts"
    )
    parser.add_argument("--schema", action="store_true", help="print the JSON schema; takes no CONFIG")


def run(arguments: argparse.Namespace) -> int:
    """`allgrad config`: YAML or JSON on standard output."""
    from allgrad.train.config import dump_yaml, json_schema, resolve

    if arguments.schema == (arguments.config is not None):
        raise UsageError("give either CONFIG or --schema")
    if arguments.schema:
        print(json.dumps(json_schema(plugins=arguments.plugin), indent=2))
    else:
        print(dump_yaml(resolve(arguments.config, arguments.overrides, plugins=arguments.plugin)), end="")
    return 0
