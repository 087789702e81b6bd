"""The chain as a service: its wiring, its status, its preview, its pace, its light and button."""
