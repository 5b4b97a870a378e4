"""One HTML file that shows what a run did: curves, the paper's figures, tables, conversations."""

from icpo_lite.tools.report.page import Options, Report, make_report

__all__ = ["Options", "Report", "make_report"]
