"""The shared kernel: what the API and the workers must agree on. No fastapi, celery or torch in here."""
