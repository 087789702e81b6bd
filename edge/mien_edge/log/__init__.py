"""The on-device log: one process writes it, any number read it. No module of it needs NumPy or
OpenCV.

The SQL schema is in log/database.py, with the version that `PRAGMA user_version` holds.
"""
