"""What is kept: SQL, Redis and files. The other packages ask here and nowhere else."""
