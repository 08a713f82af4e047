"""Status of a RayService."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rayservice_operator.api.base import ApiModel, Int32, Int64, Time
from rayservice_operator.api.raycluster_status import Conditions, RayClusterStatus


class DeploymentStatus(ApiModel):
    """State of one Serve deployment."""

    status: str = ""
    """As Ray Serve writes it: HEALTHY, UPDATING, UNHEALTHY and others."""
    message: str = ""
    """What Ray Serve says about it, cut to a readable length."""
    replicas_ready: Int32 | None = None
    """Replicas that serve."""
    replicas_target: Int32 | None = None
    """Replicas wanted."""


class ApplicationStatus(ApiModel):
    """State of one Serve application."""

    status: str = ""
    """As Ray Serve writes it: RUNNING, DEPLOYING, DEPLOY_FAILED, UNHEALTHY and others."""
    message: str = ""
    """What Ray Serve says about it, cut to a readable length."""
    serve_deployment_statuses: dict[str, DeploymentStatus] = {}
    """Its deployments by name."""


class ServingClusterStatus(ApiModel):
    """One cluster of the service and the applications on it."""

    ray_cluster_name: str = ""
    """Name of the RayCluster."""
    ray_cluster_status: RayClusterStatus | None = None
    """Its status."""
    application_statuses: dict[str, ApplicationStatus] = {}
    """Its Serve applications by name."""
    applied_config_hash: str = ""
    """Hash of the Serve config that this cluster has accepted."""
    last_update_time: Time | None = None
    """When the applications were last looked at with a different result."""
    target_capacity: Int32 | None = None
    """Serve's target capacity in percent (incremental upgrade)."""
    traffic_routed_percent: Int32 | None = None
    """Share of traffic in percent (incremental upgrade)."""
    last_traffic_migrated_time: Time | None = None
    """When traffic was last moved (incremental upgrade)."""


class CapacityStatus(ApiModel):
    """Whether the cluster has room for the pods that an upgrade needs."""

    pods: Int32 = 0
    """Pods that have no node yet."""
    fit: Int32 | None = None
    """How many of them would find room at once; absent when that is not known."""
    message: str = ""
    """What is missing where, and what the others wait for."""
    time: Time | None = None
    """When it was looked and this was found first."""


class AnalysisCheckStatus(ApiModel):
    """Where one check of the new cluster is."""

    name: str = ""
    """Name of the check."""
    phase: str = ""
    """Pending, Running, Successful, Failed or Inconclusive."""
    dry_run: bool = False
    """Whether it is only reported."""
    successful: Int32 = 0
    """Measurements that kept the condition."""
    failed: Int32 = 0
    """Measurements that did not."""
    inconclusive: Int32 = 0
    """Measurements that told nothing; each is taken again."""
    value: str = ""
    """The last value measured."""
    stable_value: str = ""
    """That of the cluster that serves, over the same window."""
    message: str = ""
    """What the last measurement told."""
    measured_at: Time | None = None
    """When the last measurement ended."""
    window_started: Time | None = None
    """When the window of the next measurement began, if it goes on from a window with too small a sample."""


class AnalysisStatus(ApiModel):
    """The analysis of the new cluster."""

    phase: str = ""
    """Running, Successful, Failed or Inconclusive. Only a Successful one lets the new cluster take over."""
    subject: str = ""
    """Hash of what is analysed and how; results of another subject count for nothing."""
    started: Time | None = None
    """When the new cluster was ready to be measured."""
    message: str = ""
    """Where it is, or why it failed."""
    checks: list[AnalysisCheckStatus] = []
    """Each check."""


class UpgradeStatus(ApiModel):
    """The upgrade going on, or the last one."""

    strategy: str = ""
    """Strategy it follows."""
    from_: Annotated[str, Field(alias="from")] = ""
    """Name of the cluster it leaves."""
    to: str = ""
    """Name of the cluster it goes to."""
    revision: Int64 | None = None
    """Number of the ControllerRevision that is rolled out (InPlace)."""
    phase: str = ""
    """Where it is."""
    started: Time | None = None
    """When it began."""
    paused: Time | None = None
    """Since when it is paused."""
    resumed: Time | None = None
    """When it was resumed last; deadlines count from there."""
    deadline: Time | None = None
    """When it is aborted, as things stand."""
    step: Int32 | None = None
    """Number of the step it is at, from 0. InPlace: pods that are done."""
    steps: Int32 | None = None
    """How many steps there are. InPlace: pods that are to be replaced, and those that are."""
    analysis: AnalysisStatus | None = None
    """The analysis of the new cluster, if upgradeStrategy.analysis asks for one."""
    needs: str = ""
    """What it needs beside the cluster that serves: pods, GPUs, CPUs, memory."""
    capacity: CapacityStatus | None = None
    """Whether there is room for that, until all pods have a node."""
    message: str = ""
    """What it is doing or waiting for."""


class AppliedStatus(ApiModel):
    """What was last brought into effect."""

    config_hash: str = ""
    """Hash of the Serve config."""
    spec_hash: str = ""
    """Hash of the cluster spec."""
    revision: Int64 | None = None
    """Number of the ControllerRevision that holds it."""
    good_config_hash: str = ""
    """Hash of the Serve config under which all applications ran last: what a failed update goes back to."""
    good_since: Time | None = None
    """Since when it is called good. Trouble that begins soon after is the update's."""
    former_good_config_hash: str = ""
    """The one before it on the same cluster: what trouble soon after goes back to."""
    time: Time | None = None
    """When it was brought into effect."""


class FailedUpdateStatus(ApiModel):
    """What failed and gave way to what served before: a hot update, or an upgrade. Gone when the spec changes there."""

    config_hash: str = ""
    """Hash of the Serve config that failed, or that came with the upgrade; it is not tried again."""
    cluster_hash: str = ""
    """Hash of the cluster spec whose upgrade was aborted; empty for a hot update."""
    analysis_hash: str = ""
    """Hash of the analysis that the new cluster did not pass; empty where something else failed. With another analysis
    the upgrade is tried again."""
    rolled_back_to: str = ""
    """Hash of the Serve config in its place."""
    revision: Int64 | None = None
    """Number of the revision that was built again in its place, where its cluster was gone (Recreate), or rolled out
    again (InPlace)."""
    asked: bool = False
    """Whether a person gave it up."""
    message: str = ""
    """Why it failed, with Ray Serve's own words."""
    time: Time | None = None
    """When it failed."""
    retry: str = ""
    """Value of the annotation ray.io/retry at that time; another value tries the config once more."""


class ProgressStatus(ApiModel):
    """What the cluster on its way to serving does, and since when nothing moves. Absent while all is well."""

    cluster: str = ""
    """Name of the RayCluster."""
    config_hash: str = ""
    """Hash of the Serve config that it is on its way to."""
    activity: str = ""
    """What it does: PullingImages, StartingRay, LoadingReplicas, WaitingForResources and others."""
    activity_since: Time | None = None
    """Since when it does that."""
    began: Time | None = None
    """When it was seen not serving."""
    unmoved_since: Time | None = None
    """Since when nothing has moved and time counts against a threshold; unset while it does not count."""
    counted_seconds: Int64 | None = None
    """Seconds that had counted before, when a step that goes on by itself stopped the clock."""
    spent: dict[str, Int64] = {}
    """Seconds spent in earlier activities."""
    ready: Int64 | None = None
    """Most pods and replicas that were ready."""
    seen: list[str] = []
    """Short hashes of the states it has been in: coming back to one of them is no progress."""


class RecoveryStatus(ApiModel):
    """What was done about a service in trouble (annotation ray.io/auto-recovery).

    Forgotten after an hour of serving.
    """

    step: str = ""
    """Reapplying, Reapplied, Replacing, Replaced or Exhausted."""
    cluster: str = ""
    """Name of the RayCluster that it is about."""
    attempts: Int32 | None = None
    """Clusters that were replaced."""
    reason: str = ""
    """Which threshold was passed: DeploymentUnhealthy or ServiceUnhealthy."""
    message: str = ""
    """What the trouble was."""
    time: Time | None = None
    """When the step was begun."""
    config_hash: str = ""
    """Hash of the Serve config in force; another one begins a new count."""
    cluster_hash: str = ""
    """Hash of the cluster spec; another one begins a new count."""
    retry: str = ""
    """Value of the annotation ray.io/retry; another one begins a new count."""
    healthy_since: Time | None = None
    """Since when it serves again."""
    discarded: str = ""
    """Name of a replacement that failed as well."""


class UndoneStatus(ApiModel):
    """A spec that gave way to an earlier revision because somebody asked for it."""

    value: str = ""
    """Value of the annotation ray.io/undo that asked for it: the number of a revision."""
    spec_hash: str = ""
    """Hash of the spec that was undone; another spec is not."""
    time: Time | None = None
    """When it was asked for."""


class RayServiceStatus(ApiModel):
    """Observed state of the service."""

    conditions: Conditions = []
    """Aspects of the state: Ready, UpgradeInProgress, Reconciling, Stalled, ServeConfigApplied and others."""
    service_status: str = ""
    """Running or empty. Kept for older tools; read the Ready condition."""
    num_serve_endpoints: Int32 = 0
    """Ready pods behind the service in front of Serve."""
    active_service_status: ServingClusterStatus | None = None
    """The cluster that serves."""
    pending_service_status: ServingClusterStatus | None = None
    """The cluster that is being prepared to take over."""
    upgrade: UpgradeStatus | None = None
    """The upgrade going on, or the last one."""
    applied: AppliedStatus | None = None
    """What was last brought into effect."""
    failed_update: FailedUpdateStatus | None = None
    """What failed, if what served before is in force in its place."""
    progress: ProgressStatus | None = None
    """What the cluster on its way to serving does, and since when nothing moves. Absent while all is well."""
    recovery: RecoveryStatus | None = None
    """What was done about a service in trouble (annotation ray.io/auto-recovery)."""
    undone: UndoneStatus | None = None
    """Which spec gave way to an earlier revision, if the annotation ray.io/undo is set."""
    last_update_time: Time | None = None
    """When the status changed last."""
    observed_generation: Int64 = -1
    """Generation of the spec that this status is about; -1 before the operator has seen the object."""
