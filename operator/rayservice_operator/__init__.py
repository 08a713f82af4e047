"""A Kubernetes operator for ray.io/v1 RayService and RayCluster."""

__version__ = "0.1.0"
