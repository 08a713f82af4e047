"""What the webhook thinks of a write: which are looked at, what refuses, what is only said.

It explains and changes nothing. Everything that it says is said by the reconcile too, by the same functions, so that
nothing depends on the webhook being there: it only says it earlier. What the operator cannot run is refused there as
well; what lint holds for an error is tried there, after a warning, because by then it is stored.

An object that is wrong already must stay editable (a label, a finalizer, one mistake mended of two). So an update is
refused for what it brings in, and only told of what was wrong before.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from rayservice_operator import lint
from rayservice_operator.admission.messages import Problem, as_violation
from rayservice_operator.admission.review import Reviewer, ReviewRequest, Verdict
from rayservice_operator.api import names
from rayservice_operator.cluster import refusals as cluster
from rayservice_operator.core.config import OperatorConfig
from rayservice_operator.core.findings import Finding, Severity
from rayservice_operator.core.objects import Manifest, annotations_of, is_terminating, labels_of
from rayservice_operator.core.violations import Violation
from rayservice_operator.service import context as service
from rayservice_operator.service.preview import preview

log = logging.getLogger(__name__)

Check: TypeAlias = Callable[[Manifest], Iterable[Problem]]
"""What there is to say about a manifest by itself. Violations, and findings that are errors, refuse."""

Outlook: TypeAlias = Callable[[Manifest | None, Manifest], Iterable[str]]
"""Lines about what a change will do; None: the object is new."""


def _preview(before: Manifest | None, after: Manifest) -> Iterable[str]:
    """What a change does to what runs."""
    told = preview(before, after) if before is not None else None
    return told.lines() if told is not None and told.changes_anything and not told.violations else ()


CHECKS: Final[Mapping[str, tuple[Check, ...]]] = {
    "RayService": (service.refusals, lint.faults),
    "RayCluster": (cluster.refusals,),
}
"""By kind. Whatever is said here must be asked by the reconcile of that kind as well."""

OUTLOOKS: Final[Mapping[str, tuple[Outlook, ...]]] = {
    "RayService": (_preview,),
    "RayCluster": (),
}

FAILED: Final = "the operator could not check this completely (a mistake of its own; its log tells more)"

_INDEX: Final = re.compile(r"\[\d+\]")
_OUR_ANNOTATIONS: Final = ("ray.io/", "rayservice.ray.io/")


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose writes, and which objects, are not our business.

    ``own_user`` is the operator's user name: what it writes itself is never held up. ``namespaces`` empty: all.
    """

    own_user: str = ""
    namespaces: tuple[str, ...] = ()
    managed_by: frozenset[str] = field(default_factory=lambda: OperatorConfig().managed_by)


def reviewer(
    scope: Scope,
    checks: Mapping[str, Sequence[Check]] = CHECKS,
    outlooks: Mapping[str, Sequence[Outlook]] = OUTLOOKS,
) -> Reviewer:
    """The function that the server asks. A check that fails by itself refuses nothing; the others are heard."""

    def review(request: ReviewRequest) -> Verdict:
        if any(passes(request, scope) for passes in _PASSES):
            return Verdict()
        found, failed = _found(checks.get(request.kind, ()), request.obj)
        errors = [problem for problem in found if _refuses(problem)]
        before: list[Problem] = []
        if errors and request.old is not None:
            known, known_failed = _found(checks.get(request.kind, ()), request.old)
            before = _in_both([problem for problem in known if _refuses(problem)], errors)
            if known_failed:  # what was wrong before is not known: nothing can be held against the change
                before, failed = errors, True
        lines, lines_failed = _outlook(outlooks.get(request.kind, ()), request)
        told = [p for p in found if isinstance(p, Finding) and not _refuses(p)]
        warnings = [
            *(f"{as_violation(problem)} (this was so before the change)" for problem in before),
            *([FAILED] if failed or lines_failed else []),
            *(lint.told(finding) for finding in told if finding.severity is Severity.WARNING),
            *lines,
            *(lint.told(finding) for finding in told if finding.severity is Severity.HINT),
        ]
        return Verdict(_without(errors, before), tuple(dict.fromkeys(warnings)))

    return review


# Writes that are none of our business, or that must always be possible.


def _own(request: ReviewRequest, scope: Scope) -> bool:
    return bool(scope.own_user) and request.user == scope.own_user


def _other_write(request: ReviewRequest, _: Scope) -> bool:
    """Another verb, kind or part of an object than the webhook was made for."""
    return request.operation not in {"CREATE", "UPDATE"} or bool(request.subresource) or request.kind not in CHECKS


def _elsewhere(request: ReviewRequest, scope: Scope) -> bool:
    return bool(scope.namespaces) and request.namespace not in scope.namespaces


def _leaving(request: ReviewRequest, _: Scope) -> bool:
    """It is being deleted: what is written now are finalizers, and nothing will be built from its spec."""
    return is_terminating(request.obj)


def _foreign(request: ReviewRequest, scope: Scope) -> bool:
    spec = request.obj.get("spec")
    return isinstance(spec, dict) and (spec.get("managedBy") or "") not in scope.managed_by


def _unchanged(request: ReviewRequest, _: Scope) -> bool:
    """Neither the spec nor a setting among the annotations is another: labels, owners, finalizers, a status."""
    return request.old is not None and _declared(request.old) == _declared(request.obj)


def _declared(obj: Manifest) -> str:
    """What decisions are made from, as text: in Python 1 and True are equal, in a manifest they are not."""
    settings = {key: value for key, value in annotations_of(obj).items() if key.startswith(_OUR_ANNOTATIONS)}
    return json.dumps((obj.get("spec"), settings, labels_of(obj).get(names.ORIGIN_KIND)), sort_keys=True)


_PASSES: Final[tuple[Callable[[ReviewRequest, Scope], bool], ...]] = (
    _own,
    _other_write,
    _elsewhere,
    _leaving,
    _foreign,
    _unchanged,
)


# Problems.


def _found(checks: Sequence[Check], obj: Manifest) -> tuple[list[Problem], bool]:
    """What the checks say, each thing once, and whether one of them failed."""
    said: dict[tuple[str, str], Problem] = {}
    failed = False
    for check in checks:
        try:
            problems = list(check({**obj, "spec": obj.get("spec")}))
        except Exception:
            log.exception("admission: a check failed; the write is not refused for that")
            failed = True
            continue
        for problem in problems:
            violation = as_violation(problem)
            said.setdefault((violation.field, violation.problem), problem)
    return list(said.values()), failed


def _refuses(problem: Problem) -> bool:
    return isinstance(problem, Violation) or problem.severity is Severity.ERROR


def _in_both(known: Sequence[Problem], errors: Sequence[Problem]) -> list[Problem]:
    """Those of ``errors`` that were there before.

    Places in lists do not count: an entry put in front moves all others. So if there are more of the same kind than
    before, as many as before count as known.
    """
    left = Counter(map(_likeness, known))
    exact = {(as_violation(p).field, as_violation(p).problem) for p in known}
    found = []
    # Where it stands as before comes first, so that the entry that is new is the one that is refused.
    for error in sorted(errors, key=lambda p: (as_violation(p).field, as_violation(p).problem) not in exact):
        if left[_likeness(error)] > 0:
            left[_likeness(error)] -= 1
            found.append(error)
    return [error for error in errors if error in found]


def _likeness(problem: Problem) -> tuple[str, str]:
    violation = as_violation(problem)
    return _INDEX.sub("[]", violation.field), _INDEX.sub("[]", violation.problem)


def _without(errors: Sequence[Problem], known: Sequence[Problem]) -> tuple[Problem, ...]:
    return tuple(error for error in errors if error not in known)


# Words.


def _outlook(outlooks: Sequence[Outlook], request: ReviewRequest) -> tuple[list[str], bool]:
    lines: list[str] = []
    failed = False
    for outlook in outlooks:
        try:
            lines += outlook(request.old, request.obj)
        except Exception:
            log.exception("admission: the preview of a change failed; the write is not refused for that")
            failed = True
    return lines, failed
