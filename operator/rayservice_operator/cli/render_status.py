"""``status`` on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rayservice_operator.api import names
from rayservice_operator.cli.human import age, count, duration, line, until
from rayservice_operator.cli.render import NARROW, STYLES, condition, heading, indented, labelled, sections, table, word
from rayservice_operator.cli.view import Pod
from rayservice_operator.cli.view_status import TOLD_AS_TROUBLE, Cluster, ColdStart, Row, Status, Upgrade
from rayservice_operator.core.timestamps import from_rfc3339

_BAR = 40
_TINY = 60
"""Below so many columns, reasons of conditions are left to the messages."""
_WORTH_TELLING_S = 30
"""Nothing stands still for less than that."""
_READY = {"True": "Ready", "False": "Not ready", "Unknown": "Unknown"}


def listing(rows: Sequence[Row], now: float, width: int, *, namespaces: bool) -> RenderableType:
    """All RayServices, one line each."""
    if not rows:
        return Text("No RayServices found.")
    narrow = width < NARROW
    columns = ["NAMESPACE", "NAME", "READY", "REASON", "CLUSTER", "UPGRADE", "ENDPOINTS", "AGE"]
    return table(
        columns,
        (
            [
                row.namespace if namespaces else "",
                row.name,
                word(row.ready),
                "" if narrow else row.reason,
                "" if narrow else row.cluster,
                Text(row.upgrade, style="yellow"),
                "" if narrow else str(row.endpoints),
                age(row.created, now),
            ]
            for row in rows
        ),
        right=("ENDPOINTS",),
    )


def screen(status: Status, now: float, width: int) -> RenderableType:
    """One RayService."""
    return sections(
        [
            _head(status, now),
            *(labelled(trouble.kind, _dated(trouble.message, trouble.time, now), "red") for trouble in status.troubles),
            _upgrade(status.upgrade, now, width) if status.upgrade is not None and not _boring(status) else None,
            _cold_start(status.cold_start, now) if status.cold_start is not None else None,
            *(_cluster(cluster, now, width) for cluster in status.clusters),
            _conditions(status, now, width),
        ]
    )


def _dated(message: str, time: str | None, now: float) -> str:
    return f"{message} ({age(time, now)} ago)" if time else message


def _head(status: Status, now: float) -> Group:
    ready = Text(_READY.get(status.ready, status.ready), style=STYLES.get(status.ready, ""))
    first = heading(
        status.name,
        ready,
        Text("suspended", style="magenta") if status.suspended else "",
        Text("paused", style="magenta") if status.paused else "",
    )
    facts = [
        f"namespace {status.namespace}",
        f"age {age(status.created, now)}",
        f"revision {status.revision}" if status.revision else "",
        count(status.endpoints, "endpoint"),
    ]
    lines = [first, Text("  ".join(fact for fact in facts if fact), style="dim")]
    if status.message:
        lines.append(Text(f"{status.reason}: {status.message}" if status.ready != "True" else status.message))
    if not status.observed:
        lines.append(Text("The operator has not looked at the present spec yet; this is older.", style="yellow"))
    return Group(*lines)


def _boring(status: Status) -> bool:
    """An upgrade that is over is no news, unless it was aborted and nothing else says so."""
    upgrade = status.upgrade
    return upgrade is not None and not upgrade.under_way and (upgrade.phase != "Aborted" or bool(status.troubles))


def _upgrade(upgrade: Upgrade, now: float, width: int) -> Group:
    moves = upgrade.source and upgrade.source != upgrade.target
    way = f"{upgrade.source} → {upgrade.target}" if moves else upgrade.target
    what = "First start" if upgrade.first else "Upgrade"
    parts: list[RenderableType] = [heading(what, word(upgrade.phase))]
    if upgrade.under_way:
        parts.append(indented(bar(upgrade.percent, width)))
    how = "" if upgrade.first else upgrade.strategy
    parts.append(indented(labelled("what", ", ".join(part for part in (how, way) if part))))
    if upgrade.steps:
        parts.append(indented(labelled("step", f"{upgrade.step or 0} of {upgrade.steps}")))
    if upgrade.waits:
        parts.append(indented(labelled("now" if upgrade.under_way else "end", upgrade.waits)))
    if upgrade.under_way:
        if upgrade.needs:
            parts.append(indented(labelled("needs", upgrade.needs)))
        if upgrade.capacity:
            parts.append(indented(labelled("room", upgrade.capacity, "yellow")))
        times = [f"begun {age(upgrade.started, now)} ago"] if upgrade.started else []
        times += [f"aborted {until(upgrade.deadline, now)} as things stand"] if upgrade.deadline else []
        if times:
            parts.append(indented(labelled("time", ", ".join(times))))
    if upgrade.checks:
        parts.append(indented(_checks(upgrade)))
    return Group(*parts)


def _checks(upgrade: Upgrade) -> Table:
    return table(
        ["CHECK", "PHASE", "GOOD", "BAD", "VALUE"],
        (
            [c.name + (" (dry run)" if c.dry_run else ""), word(c.phase), str(c.successful), str(c.failed), c.value]
            for c in upgrade.checks
        ),
        right=("GOOD", "BAD"),
    )


def bar(percent: int, width: int) -> Table:
    """A progress bar with its number."""
    made = Table.grid(padding=(0, 1, 0, 0))
    made.add_row(
        ProgressBar(total=100, completed=percent, width=min(_BAR, max(10, width - 12)), complete_style="cyan"),
        Text(f"{percent}%"),
    )
    return made


def _cold_start(cold: ColdStart, now: float) -> Group:
    since = f" for {age(cold.since, now)}" if cold.since else ""
    parts: list[RenderableType] = [heading("Where it is", Text(f"{cold.words}{since}", style="yellow"), cold.cluster)]
    if cold.spent:
        spent = ", ".join(f"{s.words} {duration(s.seconds)}" for s in cold.spent)
        parts.append(indented(labelled("before", spent)))
    unmoved = from_rfc3339(cold.unmoved_since)
    if cold.counted and unmoved is not None and now - unmoved >= _WORTH_TELLING_S:
        text = f"nothing has moved for {age(cold.unmoved_since, now)}; that counts against {cold.counted}"
        parts.append(indented(labelled("clock", text, "yellow")))
    return Group(*parts)


def _cluster(cluster: Cluster, now: float, width: int) -> Group:
    ready = sum(pod.ready for pod in cluster.pods)
    facts = [f"{ready}/{len(cluster.pods)} pods ready"]
    facts += [f"traffic {cluster.traffic_percent}%"] if cluster.traffic_percent is not None else []
    facts += [f"capacity {cluster.target_capacity}%"] if cluster.target_capacity is not None else []
    style = {"active": "green", "pending": "yellow"}.get(cluster.role, "dim")
    parts: list[RenderableType] = [
        heading(cluster.name, Text(cluster.role, style=style), Text(", ".join(facts), style="dim"))
    ]
    if cluster.applications:
        parts.append(indented(_applications(cluster)))
        parts += [indented(m) for m in _messages(cluster)]
    if cluster.pods:
        parts.append(indented(_pods(cluster.pods, now, width)))
    return Group(*parts)


def _applications(cluster: Cluster) -> Table:
    rows: list[list[str | Text]] = []
    for app in cluster.applications:
        rows.append([Text(app.name), word(app.status), ""])
        for d in app.deployments:
            shown = "" if d.ready is None and d.target is None else f"{_number(d.ready)}/{_number(d.target)}"
            rows.append([Text(f"└ {d.name}"), word(d.status), shown])
    return table(["APPLICATION", "STATUS", "REPLICAS"], rows)


def _number(value: int | None) -> str:
    return "?" if value is None else str(value)


def _messages(cluster: Cluster) -> Iterator[RenderableType]:
    """What Ray says of that which does not go well; a deployment's words rather than the same of its application."""
    for app in cluster.applications:
        told = [(d.name, d.message) for d in app.deployments if d.message and d.status != "HEALTHY"]
        for name, message in told or ([(app.name, app.message)] if app.message and app.status != "RUNNING" else []):
            yield labelled(name, line(message, 300), "yellow")


def _pods(pods: Sequence[Pod], now: float, width: int) -> Table:
    narrow = width < NARROW
    return table(
        ["POD", "GROUP", "STATE", "READY", "RESTARTS", "AGE", "NODE"],
        (
            [
                pod.name.removeprefix(f"{pod.cluster}-") if narrow else pod.name,
                "" if narrow else ("head" if pod.group == names.HEAD_GROUP else pod.group),
                word(pod.state),
                ("yes" if pod.ready else Text("no", style="yellow")),
                str(pod.restarts) if pod.restarts else "",
                age(pod.created, now),
                "" if narrow else pod.node,
            ]
            for pod in pods
        ),
        right=("RESTARTS",),
    )


def _conditions(status: Status, now: float, width: int) -> RenderableType | None:
    if not status.conditions:
        return None
    shown = table(
        ["CONDITION", "STATUS", "SINCE", "REASON"],
        (
            [
                c.type,
                condition(c.type, c.status),
                "" if width < NARROW else age(c.since, now),
                "" if width < _TINY else c.reason,
            ]
            for c in status.conditions
        ),
    )
    said = {status.message, status.upgrade.waits if status.upgrade else ""}
    told = [
        labelled(c.type, c.message, "red" if c.type == "Stalled" else "")
        for c in status.conditions
        if c.type in {"Stalled", "Reconciling"} and c.reason not in TOLD_AS_TROUBLE and c.message not in said
    ]
    return Group(shown, *told)
