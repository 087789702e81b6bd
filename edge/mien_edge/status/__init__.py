"""How the device and its service are, read from files that the service and the kernel write."""
