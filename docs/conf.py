"""Builds the docs: MyST pages, and a reference from the docstrings."""

import importlib
from importlib.metadata import version as installed_version
from typing import Any

from sphinx.pycode import ModuleAnalyzer

import mirai_executor
from mirai_executor._daemon_options import OPTIONS, OptionKind

project = "mirai_executor"
author = "the authors of mirai_executor"
release = version = installed_version("mirai-executor")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
myst_enable_extensions = ["colon_fence", "deflist", "substitution"]
myst_heading_anchors = 3
VALUES = {OptionKind.SECONDS: " S", OptionKind.COUNT: " N", OptionKind.AUTOEXIT: " WORD"}
# What pages show in the place of {{ the name }}: the same descriptions as --help.
myst_substitutions = {
    "daemon_options": "\n".join(
        [
            "| option | argument | what the daemon does |",
            "|---|---|---|",
            *(
                f"| `{it.flag}`, `--no-{it.flag[2:]}` | `{it.name}` | {it.description} |"
                if it.kind is OptionKind.SWITCH
                else f"| `{it.flag}{VALUES[it.kind]}` | `{it.name}` | {it.description} |"
                for it in OPTIONS.values()
            ),
        ]
    )
}
exclude_patterns = ["_build"]
nitpicky = True
# An excerpt of the standard library's inventory, made by inventories/make.py: the docs build
# without a network, and a name that is missing is an error, not a download.
intersphinx_mapping = {"python": ("https://docs.python.org/3", "inventories/python.inv")}

html_theme = "furo"
html_title = f"mirai_executor {release}"
html_static_path = ["_static"]
html_css_files = ["mirai.css"]
html_extra_path = ["llms.txt"]  # https://llmstxt.org: it stands at the root of the site
# Outputs are not for copying.
copybutton_selector = "div.highlight:not(.highlight-text div) > pre"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"  # one parameter a line, with its type as a link
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
python_maximum_signature_line_length = 60
toc_object_entries_show_parents = "hide"

nitpick_ignore_regex = [
    ("py:.*", r"(.*\.)?~?[FTKP]"),  # type variables
    ("py:class", r"(mirai_executor\.launchers\..*\.)?Submission"),
    ("py:class", r"(mirai_executor\.credentials\..*\.)?DaemonCredentials"),
    ("py:class", r"mirai_executor\.launchers\._seats\.Booking"),  # a launcher never looks into it
    ("py:class", r"mirai_executor\._host\._settings\.Options"),  # what with_options() describes
    ("py:class", r"mirai_executor\.futures\.Canceller"),
    ("py:class", r"(mirai_executor\._progress\.)?Progress"),  # what map() describes
    ("py:class", r"numpy\.random\.\w+"),
    ("py:class", r"(mirai_executor\._daemon_options\.)?DaemonKeywords"),  # what --help describes
]

# Where a public object really is, and the name by which users import it.
PUBLIC = {
    f"{real.__module__}.{real.__qualname__}": f"mirai_executor.{name}"
    for name in mirai_executor.__all__
    if hasattr(real := getattr(mirai_executor, name), "__qualname__")
} | {
    "mirai_executor._submitting.ExecutorView": "mirai_executor.executor.ExecutorView",
    "mirai_executor._core.messages.TaskId": "int",
    "MiraiExecutor": "mirai_executor.MiraiExecutor",
    "concurrent.futures._base.Future": "concurrent.futures.Future",
    "Future": "concurrent.futures.Future",
    "CancelledError": "concurrent.futures.CancelledError",
    "InvalidStateError": "concurrent.futures.InvalidStateError",
    **{
        name: f"mirai_executor.{name}"
        for name in mirai_executor.__all__
        if name.endswith("_config")
    },
    **{
        f"{prefix}{name}": f"mirai_executor.launchers.{name}"
        for name, room in {
            "ClusterConfig": "_cluster",
            "Command": "_daemon",
            "DaemonCommand": "_daemon",
            "DaskConfig": "_dask",
            "HttpConfig": "_http",
            "HttpRequest": "_daemon",
            "Job": "_jobs",
            "JobRequest": "_jobs",
            "KubernetesConfig": "_kubernetes",
            "Launcher": "_daemon",
            "Machine": "_ssh",
            "PrivateFile": "_daemon",
            "Queue": "_queue",
            "QueuedJob": "_queue",
            "RayConfig": "_ray",
            "RemoteConfig": "_remote",
            "Scheduler": "_cluster",
            "SshConfig": "_ssh",
            "Until": "_daemon",
        }.items()
        for prefix in ("", f"mirai_executor.launchers.{room}.")
    },
}


def public_name(app: Any, env: Any, node: Any, content: Any) -> Any:
    """Resolve a type that an annotation names by its module to what the reference documents."""
    target = PUBLIC.get(node.get("reftarget"))
    if target is None:
        return None
    node["reftarget"] = target  # for intersphinx, which is asked next
    domain = env.get_domain("py")
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", target, node, content)


def source_of(app: Any, module: str, attribute: str) -> str | None:
    """Tell viewcode in which module a public name is written."""
    found: Any = importlib.import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part, None)
    return getattr(found, "__module__", None)


def hide_overloads(app: Any) -> None:
    """Let mirai() be shown with the signature that the reference gives: its overloads confuse."""
    analyzer = ModuleAnalyzer.for_module("mirai_executor.functional._tasks")
    analyzer.analyze()
    analyzer.overloads.clear()


def setup(app: Any) -> None:
    app.connect("builder-inited", hide_overloads)
    app.connect("missing-reference", public_name, priority=400)
    app.connect("viewcode-follow-imported", source_of)
