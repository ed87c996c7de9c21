"""Print a configuration as a run would see it: with everything that it extends, all overrides, and every key written out.

With --schema, print the JSON schema of such files, which an editor uses for completion. With --reference, print the reference
of all keys in Markdown (docs/configuration.md).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from allgrad.cli.arguments import add_config, add_plugins
from allgrad.errors import UsageError

if TYPE_CHECKING:
    import argparse

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `allgrad config`."""
    add_config(parser, optional=True)
    add_plugins(parser)
    parser.add_argument("--schema", action="store_true", help="print the JSON schema; takes no CONFIG")
    parser.add_argument("--reference", action="store_true", help="print the reference of all keys; takes no CONFIG")


def run(arguments: argparse.Namespace) -> int:
    """`allgrad config`: YAML, JSON or Markdown on standard output."""
    from allgrad.train.config import dump_yaml, json_schema, reference, resolve

    if (arguments.config is not None) + arguments.schema + arguments.reference != 1:
        raise UsageError("Give exactly one of CONFIG, --schema and --reference.")
    if arguments.reference:
        print(reference(plugins=arguments.plugin), end="")
    elif arguments.schema:
        print(json.dumps(json_schema(plugins=arguments.plugin), indent=2))
    else:
        print(dump_yaml(resolve(arguments.config, arguments.overrides, plugins=arguments.plugin)), end="")
    return 0
