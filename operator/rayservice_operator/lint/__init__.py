"""Checks of a manifest before it is applied: rules with stable names, a place for each finding, and what to do.

A rule is a pure function over one manifest (:class:`~rayservice_operator.lint.subject.Subject`) and stands with its
explanation in a literal table, from which ``docs/lint.md`` is made. ``lint_manifest`` takes JSON, as an admission
webhook has it; ``lint_text`` takes the file that a person wrote and knows lines and columns.
"""

from __future__ import annotations

from rayservice_operator.lint.formats import told
from rayservice_operator.lint.manifest import faults, ignored_by, lint_manifest
from rayservice_operator.lint.table import BY_NAME, RULES
from rayservice_operator.lint.text import lint_document, lint_text

__all__ = ["BY_NAME", "RULES", "faults", "ignored_by", "lint_document", "lint_manifest", "lint_text", "told"]
