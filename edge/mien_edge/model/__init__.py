"""Model bundles, the interpreter that runs them, and what a network costs."""
