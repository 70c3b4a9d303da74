"""Settings of Sphinx for the documentation site, which ``make docs`` builds from the pages of the whole repository."""

import sys
from pathlib import Path

from brats3d import __version__

sys.path.insert(0, str(Path(__file__).parent))

project = "brats3d"
project_copyright = "the authors of brats3d"
version = release = __version__
root_doc = "docs/index"
include_patterns = [
    *(
        "docs/*.md",
        "docs/*/*.md",
        "docs/tutorial.ipynb",
        "data/README.md",
        "bundle/docs/README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
    ),
    *("benchmarks/RESULTS.md", "benchmarks/results/*.md"),
]
extensions = [
    *("myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"),
    *("sphinx_click", "sphinx_copybutton", "generated_tables"),
]
html_theme = "furo"
html_title = f"brats3d {version}"
html_extra_path = ["theme/index.html"]  # leads to docs/index.html
html_static_path = ["theme"]
html_css_files = ["site.css"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # show the outputs that `make tutorial` saved
nb_merge_streams = True
smartquotes = False  # or "--option" becomes "–option" in the generated tables
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
