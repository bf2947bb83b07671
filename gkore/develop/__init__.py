"""What a developer runs: ``gkore run``, ``create``, ``routes``, ``openapi``, ``completion``."""
