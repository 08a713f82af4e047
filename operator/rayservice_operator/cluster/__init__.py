"""A RayCluster: its pods, services and rights built from the spec, and the decision what to do about it."""
