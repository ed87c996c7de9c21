"""What `import allgrad` shows is what users are meant to use."""

import importlib.resources
import types

import allgrad as ag


def test_every_public_name_exists_and_is_no_accident():
    for name in dir(ag):
        value = getattr(ag, name)
        if isinstance(value, types.ModuleType):
            assert value.__name__ == f"allgrad.{name}", f"ag.{name} is a module that users do not import"
            assert hasattr(value, "__path__"), f"ag.{name} is a file of the implementation"
        assert name == "__version__" or not name.startswith("_")
    assert {"grad", "vjp", "jvp", "Tensor", "tensor", "Primitive", "custom_root", "ravel", "nn", "numpy"} <= set(
        dir(ag)
    )
    assert not {"Any", "importlib", "engine", "primitive", "annotations"} & set(dir(ag))


def test_a_star_import_gives_the_same_names():
    names: dict[str, object] = {}
    exec("from allgrad.autodiff import *", names)
    assert {name for name in names if not name.startswith("__")} == set(ag.autodiff.__all__)


def test_the_version_and_the_types_are_there():
    assert ag.__version__[0].isdigit()
    assert importlib.resources.files("allgrad").joinpath("py.typed").is_file()


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(ag, "no_such_name")
