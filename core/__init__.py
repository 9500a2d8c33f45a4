"""The shared kernel of the API and the workers. No fastapi, celery or torch in here."""
