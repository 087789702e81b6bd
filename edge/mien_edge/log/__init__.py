"""The on-device log: one process writes it, any number read it. Its SQL schema is in log/database.py.

writer: the writing side, a sink; retention: how the file is kept within its bounds; database: schema, opening, and what
becomes of a damaged file; minutes: face-seconds per label and minute; reader: queries; show: `mien-edge logs`, as text,
JSON and CSV; plot: the summary as a chart. None of them needs NumPy or OpenCV.
"""
