"""New models: stored, verified, tried on probation, committed or rolled back."""
