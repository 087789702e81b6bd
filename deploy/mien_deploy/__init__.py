"""mien's deployment side: from a workstation to devices, over SSH."""
