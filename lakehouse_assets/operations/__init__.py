"""What the platform does: plan, stage, publish."""
