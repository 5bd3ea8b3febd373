"""The serverless job from the operator's side: compare, requeue, and run it without AWS."""
