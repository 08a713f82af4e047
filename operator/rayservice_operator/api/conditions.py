"""Condition types and reasons of both kinds: KubeRay's names (v1.7), and this operator's own below each."""

from __future__ import annotations

import enum


class ServiceCondition(enum.StrEnum):
    """Condition types of a RayService."""

    READY = "Ready"
    UPGRADE_IN_PROGRESS = "UpgradeInProgress"
    ROLLBACK_IN_PROGRESS = "RollbackInProgress"
    SUSPENDING = "Suspending"
    SUSPENDED = "Suspended"
    # Ours. Reconciling and Stalled are kstatus's: present only when True, never both.
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    SERVE_CONFIG_APPLIED = "ServeConfigApplied"
    APPLICATIONS_HEALTHY = "ApplicationsHealthy"


class ServiceReason(enum.StrEnum):
    """Reasons in conditions of a RayService."""

    # Ready.
    INITIALIZING = "Initializing"
    INITIALIZING_TIMEOUT = "InitializingTimeout"
    ZERO_SERVE_ENDPOINTS = "ZeroServeEndpoints"
    NON_ZERO_SERVE_ENDPOINTS = "NonZeroServeEndpoints"
    VALIDATION_FAILED = "ValidationFailed"
    # UpgradeInProgress.
    BOTH_CLUSTERS_EXIST = "BothActivePendingClustersExist"
    NO_PENDING_CLUSTER = "NoPendingCluster"
    NO_ACTIVE_CLUSTER = "NoActiveCluster"
    # RollbackInProgress.
    DESIRED_CLUSTER_SPEC_CHANGED = "DesiredClusterSpecChanged"
    # Suspending, Suspended.
    SUSPEND_REQUESTED = "SuspendRequested"
    SUSPEND_IN_PROGRESS = "SuspendInProgress"
    SUSPEND_COMPLETE = "SuspendComplete"
    RESUMED = "RayServiceResumed"
    # Ours: Ready.
    APPLICATIONS_NOT_RUNNING = "ApplicationsNotRunning"
    OBSERVATION_STALE = "ObservationStale"
    HEAD_POD_NOT_READY = "HeadPodNotReady"
    RAY_CLUSTER_SUSPENDED = "RayClusterSuspended"
    # Ours: Reconciling.
    RECONCILE_FAILED = "ReconcileFailed"
    DEPLOYING = "Deploying"
    SWITCHING_TRAFFIC = "SwitchingTraffic"
    # Ours: Stalled.
    SERVE_CONFIG_REJECTED = "ServeConfigRejected"
    # Ours: RollbackInProgress, Reconciling, Stalled (and ServeConfigApplied) around a serve config that failed.
    SERVE_CONFIG_FAILED = "ServeConfigFailed"
    ROLLING_BACK = "RollingBack"
    ROLLED_BACK = "RolledBack"
    # Ours: around an upgrade that was given up.
    UPGRADE_ABORTED = "UpgradeAborted"
    # Ours: Stalled past a threshold, and Reconciling while something is done about it or resources are missing.
    DEPLOYMENT_UNHEALTHY = "DeploymentUnhealthy"
    SERVICE_UNHEALTHY = "ServiceUnhealthy"
    RECOVERY_EXHAUSTED = "RecoveryExhausted"
    RECOVERING = "Recovering"
    WAITING_FOR_RESOURCES = "WaitingForResources"
    # Ours: UpgradeInProgress, Reconciling of an upgrade that is held.
    UPGRADE_PAUSED = "UpgradePaused"
    ANALYZING = "Analyzing"
    # Ours: UpgradeInProgress, Reconciling while the old cluster is away and the new one not there yet.
    RECREATING = "Recreating"
    # Ours: Stalled while an earlier revision is in force because somebody asked for it.
    UNDONE = "Undone"
    # Ours: ServeConfigApplied.
    APPLIED = "Applied"
    PENDING = "Pending"
    REJECTED = "Rejected"
    NO_SERVE_CONFIG = "NoServeConfig"
    # Ours: ApplicationsHealthy.
    ALL_RUNNING = "AllRunning"
    NO_APPLICATIONS = "NoApplications"
    DEPLOY_FAILED = "DeployFailed"
    UNHEALTHY = "Unhealthy"
    MISSING = "Missing"
    UNKNOWN = "Unknown"
    # Ours: UpgradeInProgress.
    CHANGE_HELD_BACK = "ChangeHeldBack"
    # Ours: UpgradeInProgress, Reconciling, Stalled around pods that are replaced in place.
    ROLLING_PODS = "RollingPods"
    ROLL_STOPPED = "RollStopped"
    NOT_IN_PLACE = "NotInPlace"


class ClusterCondition(enum.StrEnum):
    """Condition types of a RayCluster."""

    PROVISIONED = "RayClusterProvisioned"
    HEAD_POD_READY = "HeadPodReady"
    REPLICA_FAILURE = "ReplicaFailure"
    SUSPENDING = "RayClusterSuspending"
    SUSPENDED = "RayClusterSuspended"
    # Ours, as kstatus: present only when True, never both.
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class ClusterReason(enum.StrEnum):
    """Reasons in conditions of a RayCluster."""

    # RayClusterProvisioned.
    ALL_PODS_READY_FIRST_TIME = "AllPodRunningAndReadyFirstTime"
    PODS_PROVISIONING = "RayClusterPodsProvisioning"
    # HeadPodReady; a waiting reason of the head's container may stand there too.
    HEAD_POD_RUNNING_AND_READY = "HeadPodRunningAndReady"
    HEAD_POD_NOT_FOUND = "HeadPodNotFound"
    UNKNOWN = "Unknown"
    # ReplicaFailure.
    FAILED_DELETE_ALL_PODS = "FailedDeleteAllPods"
    FAILED_DELETE_HEAD_POD = "FailedDeleteHeadPod"
    FAILED_CREATE_HEAD_POD = "FailedCreateHeadPod"
    FAILED_DELETE_WORKER_POD = "FailedDeleteWorkerPod"
    FAILED_CREATE_WORKER_POD = "FailedCreateWorkerPod"
    # Ours: Reconciling, Stalled.
    PROGRESSING = "Progressing"
    VALIDATION_FAILED = "ValidationFailed"
    DRY_RUN_REFUSED = "DryRunRefused"
