"""The manifests in launch/ against the schemas of the resources that they ask for, as a cluster would check them.

    python tests/clusters/kubernetes.py CRD.yaml [CRD.yaml ...]

The schemas are the custom resource definitions of the operators, from their repositories: kubeflow/mpi-operator has
manifests/base/kubeflow.org_mpijobs.yaml, and kubeflow/trainer has trainer.kubeflow.org_trainingruntimes.yaml and
trainer.kubeflow.org_trainjobs.yaml in manifests/base/crds. Types, required and unknown fields, enumerations, patterns and bounds
are checked, and rules written in CEL are not.
What this printed is recorded in docs/clusters.md.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

MANIFESTS = sorted((Path(__file__).parents[2] / "launch").glob("kube*.yaml"))
TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}


def mistakes(value: Any, schema: dict[str, Any], place: str) -> Iterator[str]:
    """What is wrong with a value, in words."""
    if schema.get("x-kubernetes-int-or-string"):
        if isinstance(value, bool) or not isinstance(value, int | str):
            yield f"{place}: expected a number or a text, got {value!r}"
        elif isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
            yield f"{place}: {value!r} is not of the form {schema['pattern']}"
        return
    kind = schema.get("type")
    if kind and (not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")):
        yield f"{place}: expected {kind}, got {value!r}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{place}: {value!r} is none of {schema['enum']}"
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{place}: {value!r} is not of the form {schema['pattern']}"
    if isinstance(value, str | list):
        least, most = (
            schema.get(f"{bound}{'Length' if isinstance(value, str) else 'Items'}") for bound in ("min", "max")
        )
        if not (least or 0) <= len(value) <= (most or len(value)):
            yield f"{place}: {len(value)} is a wrong length"
    if isinstance(value, int) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield f"{place}: {value} is out of bounds"
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from mistakes(item, schema.get("items", {}), f"{place}[{number}]")
    if isinstance(value, dict):
        yield from _fields(value, schema, place)


def _fields(value: dict[str, Any], schema: dict[str, Any], place: str) -> Iterator[str]:
    known, other = schema.get("properties", {}), schema.get("additionalProperties")
    free = other is True or schema.get("x-kubernetes-preserve-unknown-fields") or not (known or other)
    yield from (f"{place}: {name} is missing" for name in schema.get("required", []) if name not in value)
    for name, field in value.items():
        if name in known:
            yield from mistakes(field, known[name], f"{place}.{name}")
        elif isinstance(other, dict):
            yield from mistakes(field, other, f"{place}.{name}")
        elif not free:
            yield f"{place}: there is no field {name}"


def main() -> int:
    definitions = [yaml.safe_load(Path(file).read_text()) for file in sys.argv[1:]]
    schemas = {
        (f"{one['spec']['group']}/{version['name']}", one["spec"]["names"]["kind"]): version["schema"][
            "openAPIV3Schema"
        ]
        for one in definitions
        for version in one["spec"]["versions"]
    }
    wrong = 0
    for file in MANIFESTS:
        for document in yaml.safe_load_all(file.read_text()):
            what = document["apiVersion"], document["kind"]
            if what not in schemas:
                print(f"{file.name}: {' '.join(what)}: no schema given")
                wrong += 1
                continue
            found = list(mistakes(document, schemas[what], document["kind"]))
            wrong += len(found)
            print(f"{file.name}: {' '.join(what)}: {'; '.join(found) or 'fits its schema'}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
