"""The tests mirror the source, and every public list of names is sorted."""

import ast
import importlib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "cachestream"
TESTS = ROOT / "tests"

# Modules that may be without a test file of their own name: where they are tested, and why.
# A pattern stands for the private parts of a package that is tested as a whole.
ELSEWHERE = {
    "__main__.py": ("cli/test_main.py", "one line, which is run there"),
    "abc.py": ("backends/test_memory.py", "the contracts test every promise of it"),
    "errors.py": ("test_docs.py", "the tree of errors is compared with its docstring"),
    "events.py": ("simulation/test_engine.py", "values, which are seen to happen there"),
    "manager.py": ("integration/test_manager.py", "a manager is the whole chain"),
    "stored.py": ("integration/test_manager.py", "it is a part of managers"),
    "supervisor.py": ("integration/test_manager.py", "it holds what managers open"),
    "stream.py": ("integration/test_manager.py", "streams are made by managers"),
    "cli/_pages.py": ("test_docs.py", "its pages are compared there"),
    "cli/docs.py": ("test_docs.py", "its pages are compared there"),
    "_engine/*.py": ("simulation/test_engine.py", "the engine is tested as a whole, by schedules"),
    "backends/_*.py": ("backends/test_disk.py", "parts of the disk store"),
    "fsspec/_*.py": ("test_fsspec.py", "parts of the file system"),
    "inspection/_*.py": ("test_inspection.py", "parts of the inspector"),
    "frontends/_*.py": ("frontends/test_loopback.py", "parts of the loopback frontend"),
    "transports/_*.py": ("transports/test_http.py", "parts of the HTTP transport"),
    "testing/origin/*.py": ("testing/test_origin.py", "parts of the origin"),
    "testing/fakes.py": ("frontends/test_contract.py", "they pass the contracts"),
    "testing/simulation.py": ("simulation/test_engine.py", "it runs there"),
    "testing/*.py": ("frontends/test_contract.py", "contracts and their helpers, run there"),
}


def modules() -> list[str]:
    """Return every source module but the packages' fronts, relative to the package."""
    paths = (path for path in SOURCE.rglob("*.py") if path.name != "__init__.py")
    return sorted(
        str(path.relative_to(SOURCE)) for path in paths if path.parent.name != "__pycache__"
    )


def places_of(module: str) -> list[Path]:
    """Return where the tests of a module may be."""
    path = Path(module)
    own = TESTS / path.parent / f"test_{path.stem.strip('_')}.py"
    return [own] + [
        TESTS / test for pattern, (test, _) in ELSEWHERE.items() if fnmatch(module, pattern)
    ]


def public_names(path: Path) -> list[str] | None:
    """Return the literal `__all__` of a module, None if it has none."""
    for node in ast.parse(path.read_text()).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            return list(ast.literal_eval(node.value))  # type: ignore[attr-defined]
    return None


@pytest.mark.parametrize("module", modules())
def test_each_module_has_a_test_file(module: str) -> None:
    """src/cachestream/a/_b.py is tested by tests/a/test_b.py, or where the list says."""
    places = places_of(module)
    assert any(path.exists() for path in places), f"none of {places} exists"


@pytest.mark.parametrize("pattern", sorted(ELSEWHERE))
def test_the_list_has_no_leftovers(pattern: str) -> None:
    """What is tested elsewhere is there, and so is the test."""
    assert any(fnmatch(module, pattern) for module in modules())
    assert (TESTS / ELSEWHERE[pattern][0]).exists()


@pytest.mark.parametrize(
    "path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE))
)
def test_public_names_are_sorted(path: Path) -> None:
    """`__all__` is sorted, without repetition; every public module has one."""
    names = public_names(path)
    if names is None:
        assert path.parent != SOURCE or path.name.startswith("__main"), "it has no __all__"
    else:
        assert names == sorted(set(names), key=_order)


@pytest.mark.parametrize(
    "path", sorted(SOURCE.rglob("__init__.py")), ids=lambda p: str(p.relative_to(SOURCE))
)
def test_public_names_are_there(path: Path) -> None:
    """A package has what it says it has."""
    name = ".".join(("cachestream", *path.parent.relative_to(SOURCE).parts))
    package = importlib.import_module(name)
    assert [each for each in public_names(path) or [] if not hasattr(package, each)] == []


def _order(name: str) -> tuple[int, str]:
    """Sort as ruff does: constants, then classes, then the rest."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)
