"""Ray Serve applications and helpers that users name in ``import_path``; runs inside Ray pods."""
