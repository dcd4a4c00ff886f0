"""Write Great Expectations' Data Docs as one offline HTML file, with the verdict and the failures on top."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien.files import write_text

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult

TEMPLATE = "data_docs.html.j2"


def write(folder: Path, summary: Mapping[str, Any], native: Mapping[str, "ExpectationSuiteValidationResult"]) -> Path:
    """Write `folder/index.html`, the same for the same results, and return it."""
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    documents = [ValidationResultsPageRenderer(run_info_at_end=True).render(result) for result in native.values()]
    page = documents[0]
    # Without overview and run info, which hold links to pages, times and ids that mean nothing here.
    page.sections = [section for document in documents for section in document.sections[1:-1]]
    failures = [entry for entry in summary["expectations"] if not entry["success"]]
    # GX's own template loads its styles and scripts from seven hosts and shows nothing readable without them.
    view = DefaultJinjaPageView(custom_views_directory=str(Path(__file__).parent))
    text = view.render(page, TEMPLATE, summary=summary, failures=failures)
    write_text(folder / "index.html", text)
    return folder / "index.html"
