"""Disaggregated serving: replicas that read prompts (prefill), and replicas that write answers (decode)."""
