"""Reading one file: what runs in the child process, and what cuts its text. Nothing here knows of engines or tables."""
