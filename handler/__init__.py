"""What labels photos: everything the function's package holds, and nothing else."""
