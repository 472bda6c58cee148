"""The tests mirror the source, and every public list of names is sorted."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "cachestream"
TESTS = ROOT / "tests"

# Modules whose tests are elsewhere, and why.
ELSEWHERE = {
    "__main__.py": "one line; tests/cli/test_main.py runs it",
    "abc.py": "the contracts in cachestream.testing test every promise of it",
    "errors.py": "tests/test_docs.py compares the tree with its docstring",
    "events.py": "values without behaviour",
}


def modules() -> list[Path]:
    """Return every source module but the packages' fronts, relative to the package."""
    return sorted(
        path.relative_to(SOURCE)
        for path in SOURCE.rglob("*.py")
        if path.name != "__init__.py" and str(path.relative_to(SOURCE)) not in ELSEWHERE
    )


def candidates(module: Path) -> list[Path]:
    """Return where the tests of a module may be: its own file, or its private package's."""
    parents = [TESTS / module.parent / f"test_{module.stem.lstrip('_')}.py"]
    if module.parent.parts[:1] == ("testing",) and len(module.parent.parts) > 1:
        # A helper of one tool in cachestream.testing is tested through that tool.
        parents.append(TESTS / module.parent.parent / f"test_{module.parent.name}.py")
    return parents


def public_names(path: Path) -> list[str] | None:
    """Return the literal `__all__` of a module, None if it has none."""
    for node in ast.parse(path.read_text()).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            return list(ast.literal_eval(node.value))  # type: ignore[attr-defined]
    return None


@pytest.mark.parametrize("module", modules(), ids=str)
def test_each_module_has_a_test_file(module: Path) -> None:
    """src/cachestream/a/_b.py is tested by tests/a/test_b.py."""
    assert any(path.exists() for path in candidates(module)), f"{module} has no test file"


@pytest.mark.parametrize("name", sorted(ELSEWHERE))
def test_the_exceptions_exist(name: str) -> None:
    """A module that is tested elsewhere is there; the list has no leftovers."""
    assert (SOURCE / name).exists()


@pytest.mark.parametrize(
    "path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE))
)
def test_public_names_are_sorted_and_there(path: Path) -> None:
    """`__all__` is sorted, without repetition."""
    names = public_names(path)
    if names is None:
        assert path.parent != SOURCE or path.name.startswith("_"), "a public module has no __all__"
    else:
        assert names == sorted(set(names), key=_order)


def _order(name: str) -> tuple[int, str]:
    """Sort as ruff does: constants, then classes, then the rest."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)
