"""What all applications tell of themselves: metrics, spans, trace ids in logs. docs/serve-runtime/observability.md."""
