"""A run's configuration: reading, checking and writing it."""

from allgrad.train.config.changes import changed_keys as changed_keys
from allgrad.train.config.errors import ConfigError as ConfigError
from allgrad.train.config.errors import Mistake as Mistake
from allgrad.train.config.json_schema import json_schema as json_schema
from allgrad.train.config.reference import reference as reference
from allgrad.train.config.resolution import default_name as default_name
from allgrad.train.config.resolution import dump_yaml as dump_yaml
from allgrad.train.config.resolution import from_json as from_json
from allgrad.train.config.resolution import plan as plan
from allgrad.train.config.resolution import resolve as resolve
from allgrad.train.config.resolution import startup_seconds as startup_seconds
