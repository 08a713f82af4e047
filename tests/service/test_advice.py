"""What lint and the preview say of a spec becomes an event, once for each spec."""

from __future__ import annotations

from rayservice_operator.core.decision import Apply, Decision, Level
from rayservice_operator.service.decide import decide
from rayservice_operator.service.snapshot import ServiceSnapshot
from tests.service.builders import NOW, SERVE_CONFIG, after, annotated, edited, serving

TYPO = SERVE_CONFIG.replace("        user_config", "        max_replica_per_node: 2\n        user_config")


def told(decision: Decision, reason: str) -> list[str]:
    """Messages of the events with that reason."""
    return [note.message for note in decision.notes if note.reason == reason]


def recorded(snapshot: ServiceSnapshot, decision: Decision) -> ServiceSnapshot:
    """The snapshot once the decision has been carried out, with the revision that it made."""
    made = tuple(
        action.obj
        for action in decision.actions
        if isinstance(action, Apply) and action.obj["kind"] == "ControllerRevision"
    )
    assert made
    return after(snapshot, decision, revisions=(*snapshot.revisions, *made))


def test_a_typo_is_told_once() -> None:
    assert TYPO != SERVE_CONFIG
    snapshot = edited(serving(), serveConfigV2=TYPO)
    first = decide(snapshot, NOW)
    (message,) = told(first, "LintWarning")
    assert "Did you mean max_replicas_per_node?" in message
    assert "[unknown-key]" in message
    assert [note.level for note in first.notes if note.reason == "LintWarning"] == [Level.WARNING]
    assert told(decide(recorded(snapshot, first), NOW), "LintWarning") == []


def test_a_rule_that_is_switched_off_says_nothing() -> None:
    snapshot = annotated(edited(serving(), serveConfigV2=TYPO), **{"lint-ignore": "unknown-key"})
    assert told(decide(snapshot, NOW), "LintWarning") == []


def test_a_hot_update_is_told_before_it_is_done() -> None:
    before = serving()
    snapshot = edited(recorded(before, decide(before, NOW)), serveConfigV2=SERVE_CONFIG.replace("hello", "hi"))
    (message,) = told(decide(snapshot, NOW), "ChangePreview")
    assert "reconfigured in place" in message


def test_the_first_spec_changes_nothing() -> None:
    assert told(decide(serving(), NOW), "ChangePreview") == []
