"""Parts of the end-to-end cases of ``serve_runtime.llm``: asking in pods, and what should be answered."""
