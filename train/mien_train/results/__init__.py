"""What a trained network is worth: figures, reports, bundles."""
