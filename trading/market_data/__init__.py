"""The feed: live books in memory, the catalogue and the quotes written out for everybody else."""
