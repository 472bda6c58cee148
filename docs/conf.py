"""How the documentation is built: ``make docs``, and the test in ``tests/docs/test_site.py``.

Nothing is downloaded: there are no inventories of other projects, so names of theirs are
listed at the end.
"""

from __future__ import annotations

import importlib
import re
import typing

from sphinx.ext.napoleon import GoogleDocstring
from sphinx.util.nodes import make_refnode

import cachestream

project = "cachestream"
copyright = "The cachestream developers"
release = version = cachestream.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
nitpicky = True

# -- Markdown ----------------------------------------------------------------

myst_heading_anchors = 4
myst_enable_extensions = ["deflist", "fieldlist"]

# -- Docstrings --------------------------------------------------------------

# A single pair of backticks in a docstring is a reference, and has to lead somewhere.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_inherit_docstrings = True
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = False
napoleon_use_rtype = False


def _parse_whole(docstring):
    """Read the docstring of an attribute or property like any other.

    Ours have annotations, so that "What it is: more of it" is no type with a description.
    """
    docstring._what = "method"
    docstring._parse()
    lines, docstring._parsed_lines = docstring._parsed_lines, []
    return lines


GoogleDocstring._parse_attribute_docstring = _parse_whole

# -- HTML --------------------------------------------------------------------

html_theme = "furo"
html_title = f"cachestream {release}"
html_static_path = ["_static"]
html_css_files = ["cachestream.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "native"

# -- References --------------------------------------------------------------

# Names of others, of which we have no inventory. What is ours is never listed here.
STANDARD = (
    "asyncio collections contextlib datetime enum io logging os pathlib random socket ssl types"
)
LIBRARIES = "aiohttp attr attrs click fsspec hypothesis prometheus_client pytest yarl"
nitpick_ignore_regex = [
    *((r"py:.*", rf"{name}\..+") for name in [*STANDARD.split(), *LIBRARIES.split()]),
    (r"py:.*", r"bisect|ResourceWarning"),
    # a name that only type checkers know
    (r"py:.*", r"WriteableBuffer"),
]


def resolve(app, env, node, contnode):
    """Find what a docstring calls by its last name alone, or by its name in the façade."""
    if node.get("refdomain") != "py":
        return None
    domain = env.get_domain("py")
    if node["reftarget"] in domain.modules:
        return domain.resolve_xref(
            env, node["refdoc"], app.builder, "mod", node["reftarget"], node, contnode
        )
    target = node["reftarget"].lstrip(".")
    thing = _import(target)
    if isinstance(thing, typing.TypeVar):
        return contnode
    if isinstance(thing, type) and thing.__name__.endswith("Options"):
        # What a plug-in calls `Options` has no name of its own; its fields are a table there.
        return make_refnode(
            app.builder, node["refdoc"], "reference/plug-ins", None, contnode, thing.__name__
        )
    module = getattr(thing, "__module__", None)
    if module and hasattr(thing, "__qualname__"):
        target = f"{module}.{thing.__qualname__}"
    found = domain.find_obj(
        env, node.get("py:module"), node.get("py:class"), target, None, searchmode=1
    )
    homes = {entry.node_id: (name, entry) for name, entry in found}
    homes = homes if len(homes) == 1 else _inherited(domain, node, target)
    if len(homes) != 1:  # nothing, or more than one thing that could be meant
        return None
    ((name, entry),) = homes.values()
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, contnode, name)


def _inherited(domain, node, target):
    """Find a name in the bases of the class whose docstring speaks of it."""
    cls = _import(f"{node.get('py:module')}.{node.get('py:class')}")
    for base in getattr(cls, "__mro__", ()):
        name = f"{base.__module__}.{base.__qualname__}.{target}"
        if name in domain.objects:
            return {name: (name, domain.objects[name])}
    return {}


def _import(target):
    """Return what a dotted name of ours stands for, None if it is none."""
    module, _, name = target.rpartition(".")
    if not module.startswith("cachestream"):
        return None
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None


def mend_code(app, what, name, obj, options, lines):
    """Show code as code: an example that is no session, and what is indented in a module's text."""
    for index in range(len(lines) - 1, -1, -1):
        line, before = lines[index], lines[index - 1] if index else ""
        if line.strip() == "Example:":
            following = next((text.strip() for text in lines[index + 1 :] if text.strip()), "")
            if not following.startswith(">>>") and not following.endswith("::"):
                lines[index : index + 1] = [line.replace(":", "::"), ""]
        elif what == "module" and line.startswith("    ") and not before and index > 1:
            opening = next((text for text in reversed(lines[:index]) if text.strip()), "")
            if not re.match(r" |.*::$|\w+:$", opening):
                lines[index:index] = ["::", ""]


def mend_signature(app, what, name, obj, options, signature, returns):
    """Show functions as defaults by their names, and what has no name as dots."""
    if not signature or signature == "(*args, **kwargs)":  # what a protocol has
        return ("", returns) if signature else None
    signature = re.sub(r"<(?:function|class) '?([\w.]+)[^>]*>", r"\1", signature)
    signature = re.sub(r"= <[^>]*>", "= ...", signature)
    return signature.replace(" = NOTHING", " = ..."), returns


def setup(app):
    """Register what is above with Sphinx."""
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-signature", mend_signature)
    app.connect("autodoc-process-docstring", mend_code, priority=400)  # before napoleon
