"""The log, told to MQTT brokers, Home Assistant and Prometheus."""
