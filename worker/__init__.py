"""The workers: Celery consumers, the steward, and the trainer process. Never imports fastapi or app."""
