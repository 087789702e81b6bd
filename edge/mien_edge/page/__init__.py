"""The page's files: no asset comes from elsewhere."""
