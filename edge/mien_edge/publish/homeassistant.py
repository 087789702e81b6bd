"""Home Assistant's MQTT device discovery: one retained message makes a device page
(home-assistant.io/integrations/mqtt, 'Device discovery payload'; needs Home Assistant 2024.11).
"""

import json
import re
from typing import Any

from mien_edge import __version__
from mien_edge.labels import LABELS
from mien_edge.log.minutes import NONE


def topic(prefix: str, device: str) -> str:
    """Where Home Assistant looks for the message."""
    return f"{prefix}/device/{_identifier(device)}/config"


def message(base: str, device: str) -> str:
    """The discovery message for a device whose topics begin with `base`."""
    identifier = _identifier(device)
    components: dict[str, dict[str, Any]] = {
        "emotion": {
            "p": "sensor", "name": "Dominant emotion", "device_class": "enum", "options": [*LABELS, NONE],
            "value_template": "{{ value_json.emotion }}", "icon": "mdi:emoticon-outline",
        },
        "faces": {
            "p": "sensor", "name": "Faces", "state_class": "measurement", "unit_of_measurement": "faces",
            "value_template": "{{ value_json.faces }}", "icon": "mdi:account-group",
        },
        "fps": {
            "p": "sensor", "name": "Frames per second", "state_class": "measurement", "unit_of_measurement": "fps",
            "value_template": "{{ value_json.fps }}", "entity_category": "diagnostic",
        },
        "temperature": {
            "p": "sensor", "name": "Temperature", "device_class": "temperature", "state_class": "measurement",
            "unit_of_measurement": "°C", "value_template": "{{ value_json.temperature }}",
            "entity_category": "diagnostic",
        },
        "problem": {
            "p": "binary_sensor", "name": "Problem", "device_class": "problem",
            "value_template": "{{ 'ON' if value_json.problems else 'OFF' }}", "entity_category": "diagnostic",
            "json_attributes_topic": f"{base}/state",
            "json_attributes_template": "{{ {'problems': value_json.problems} | tojson }}",
        },
    }  # fmt: skip
    for name, component in components.items():
        component["unique_id"] = f"mien_{identifier}_{name}"
    content = {
        "dev": {
            "ids": [f"mien_{identifier}"],
            "name": device,
            "mf": "mien",
            "mdl": "Emotion readings",
            "sw": __version__,
        },
        "o": {"name": "mien", "sw": __version__},
        "state_topic": f"{base}/state",
        "availability_topic": f"{base}/status",
        "qos": 1,
        "cmps": components,
    }
    return json.dumps(content, ensure_ascii=False)


def _identifier(device: str) -> str:
    """As an object id may be written: letters, digits, underscore and hyphen."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", device)
