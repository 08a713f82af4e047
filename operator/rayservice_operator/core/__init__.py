"""Vocabulary shared by the pure core: snapshots' parts, actions, conditions, violations."""
