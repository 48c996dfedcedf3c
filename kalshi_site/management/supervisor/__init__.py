"""What `manage.py up` is made of: the run-time directory, Redis, the processes and their order."""
