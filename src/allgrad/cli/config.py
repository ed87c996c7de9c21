"""Print a configuration as a run would see it: with everything that it extends, all overrides, and every key written out.

With --schema, print the JSON schema of such files, which an editor uses for completion. With --reference, print the reference
of all keys in Markdown (docs/configuration.md).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from allgrad.errors import UsageError

if TYPE_CHECKING:
    import argparse

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `allgrad config`."""
    parser.add_argument("config", metavar="CONFIG", nargs="?", help="a YAML file")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="changes to it")
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="PLUGIN",
        help="a Python file or module that registers components",
    )
    parser.add_argument("--schema", action="store_true", help="print the JSON schema; takes no CONFIG")
    parser.add_argument("--reference", action="store_true", help="print the reference of all keys; takes no CONFIG")


def run(arguments: argparse.Namespace) -> int:
    """`allgrad config`: YAML, JSON or Markdown on standard output."""
    from allgrad.train.config import dump_yaml, json_schema, reference, resolve

    if (arguments.config is not None) + arguments.schema + arguments.reference != 1:
        raise UsageError("give exactly one of CONFIG, --schema and --reference")
    if arguments.reference:
        print(reference(plugins=arguments.plugin), end="")
    elif arguments.schema:
        print(json.dumps(json_schema(plugins=arguments.plugin), indent=2))
    else:
        print(dump_yaml(resolve(arguments.config, arguments.overrides, plugins=arguments.plugin)), end="")
    return 0
