"""Parts of the end-to-end cases of ``serve_runtime.llm``: what runs in pods to ask, and to say what should be answered."""
