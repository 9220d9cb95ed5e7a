"""Builds the docs: MyST pages, and a reference from the docstrings."""

from importlib.metadata import version as installed_version

project = "mirai_executor"
author = "the authors of mirai_executor"
release = version = installed_version("mirai-executor")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
html_theme = "alabaster"
exclude_patterns = ["_build"]
nitpicky = False

autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_numpy_docstring = False
