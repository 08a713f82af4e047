"""GCS fault tolerance with a real Redis: the head goes, what runs on the workers stays; nothing is left in Redis."""

import pytest

from e2e import redis_server
from e2e.manifests import cluster_spec, rayservice, worker_group
from e2e.rayservices import Service, identity
from e2e.support import Kube, condition

pytestmark = pytest.mark.timeout(900)

NAME = "durable"
FINALIZER = "ray.io/gcs-ft-redis-cleanup-finalizer"


def test_workers_and_replicas_survive_the_head(kube: Kube, namespace: str) -> None:
    with redis_server.running(kube, namespace) as redis:
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "redis"},
            "stringData": {"password": redis.password},
        }
        kube.apply(secret, namespace)
        options = {
            "redisAddress": redis.address,
            "redisPassword": {"valueFrom": {"secretKeyRef": {"name": "redis", "key": "password"}}},
        }
        cluster = cluster_spec(worker_group(), gcsFaultToleranceOptions=options)
        kube.apply(rayservice(NAME, cluster), namespace)
        service = Service(kube, namespace, NAME)
        service.wait_settled()
        assert redis.keys(), "the GCS keeps its state there"
        name = service.active()
        assert FINALIZER in kube.raycluster(namespace, name)["metadata"]["finalizers"]
        before, workers, head = service.answer(), identity(service.workers()), service.head()

        kube.delete_pod(namespace, head["metadata"]["name"], grace_seconds=1)
        service.wait(lambda: service.has_new_head(head), "another head pod")
        service.wait(lambda: condition(service.get(), "Ready").get("status") == "True", "Ready again")
        service.wait_settled()

        after = service.answer()
        assert (after["pod"], after["pid"]) == (before["pod"], before["pid"]), "the replica's process is the same"
        assert identity(service.workers()) == workers
        assert service.active() == name

        # As Argo CD does it. The garbage collector then takes what the cluster owns, and must leave the cleanup's Job.
        kube.delete("rayservice", namespace, NAME, cascade="foreground")
        service.wait(lambda: not kube.rayclusters(namespace), "the RayCluster gone, its finalizer taken off")
        assert redis.keys() == []
        reasons = {event["reason"] for event in kube.events(namespace)}
        assert "CreatedRedisCleanupJob" in reasons
        assert "RedisCleanupFailed" not in reasons
