"""Reports of a run: requirement by verdict, as text, JSON and a page of HTML."""

from tlsconform.report.model import Report, Row, Target

__all__ = ["Report", "Row", "Target"]
