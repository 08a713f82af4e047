"""End-to-end tests on a real cluster, and the tools that make one."""
