"""What deploys the job, and what stands in for AWS on a laptop."""
