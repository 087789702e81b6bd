"""The log, published to MQTT brokers, Home Assistant and Prometheus; no pixels."""
