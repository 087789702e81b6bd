"""Files of readings: lines (CSV, JSON), tables (Parquet), subtitles and annotation tiers."""
