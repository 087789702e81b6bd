"""Home Assistant's MQTT device discovery: one retained message creates a device page.

Source: home-assistant.io/integrations/mqtt, 'Device discovery payload' (Home Assistant 2024.11 or
newer). Keys are abbreviated as listed there: `p` platform, `cmps` components, `dev` device, `ids`
identifiers, `mf` manufacturer, `mdl` model, `sw` software version, `o` origin.
"""

import hashlib
import json
import re

from mien_edge import __version__
from mien_edge.labels import NONE

_HASH_DIGITS = 8

Component = dict[str, str | list[str]]
"""One entity of the device, with its keys abbreviated."""

_FACES: Component = {
    "p": "sensor",
    "name": "Faces",
    "state_class": "measurement",
    "unit_of_measurement": "faces",
    "value_template": "{{ value_json.faces }}",
    "icon": "mdi:account-group",
}
_FPS: Component = {
    "p": "sensor",
    "name": "Frames per second",
    "state_class": "measurement",
    "unit_of_measurement": "fps",
    "value_template": "{{ value_json.fps }}",
    "entity_category": "diagnostic",
}
_TEMPERATURE: Component = {
    "p": "sensor",
    "name": "Temperature",
    "device_class": "temperature",
    "state_class": "measurement",
    "unit_of_measurement": "°C",
    "value_template": "{{ value_json.temperature }}",
    "entity_category": "diagnostic",
}
_PROBLEM: Component = {
    "p": "binary_sensor",
    "name": "Problem",
    "device_class": "problem",
    "value_template": "{{ 'ON' if value_json.problems else 'OFF' }}",
    "entity_category": "diagnostic",
}
_PROBLEM_ATTRIBUTES = "{{ {'problems': value_json.problems} | tojson }}"


def discovery_topic(prefix: str, device: str) -> str:
    """The topic that Home Assistant reads the discovery message from.

    prefix: Home Assistant's discovery prefix, by default 'homeassistant'.
    device: name of this device.
    """
    return f"{prefix}/device/{_object_id(device)}/config"


def discovery_message(base_topic: str, device: str, labels: tuple[str, ...]) -> str:
    """The discovery message, as JSON.

    base_topic: the beginning of this device's topics, as in mien/DEVICE.
    device: name of this device, which Home Assistant shows.
    labels: what the emotion can be, beside 'none': Home Assistant refuses a state that is no option
        of its sensor.
    """
    object_id = _object_id(device)
    state_topic = f"{base_topic}/state"
    content = {
        "dev": {
            "ids": [f"mien_{object_id}"],
            "name": device,
            "mf": "mien",
            "mdl": "Emotion readings",
            "sw": __version__,
        },
        "o": {"name": "mien", "sw": __version__},
        "state_topic": state_topic,
        "availability_topic": f"{base_topic}/status",
        "qos": 1,
        "cmps": _components(object_id, state_topic, labels),
    }
    return json.dumps(content, ensure_ascii=False)


def _components(object_id: str, state_topic: str, labels: tuple[str, ...]) -> dict[str, Component]:
    """The entities of the device, each with an id of its own."""
    attributes: Component = {
        "json_attributes_topic": state_topic,
        "json_attributes_template": _PROBLEM_ATTRIBUTES,
    }
    components: dict[str, Component] = {
        "emotion": _emotion(labels),
        "faces": dict(_FACES),
        "fps": dict(_FPS),
        "temperature": dict(_TEMPERATURE),
        "problem": _PROBLEM | attributes,
    }
    for name, component in components.items():
        component["unique_id"] = f"mien_{object_id}_{name}"
    return components


def _emotion(labels: tuple[str, ...]) -> Component:
    return {
        "p": "sensor",
        "name": "Dominant emotion",
        "device_class": "enum",
        "options": [*labels, NONE],
        "value_template": "{{ value_json.emotion }}",
        "icon": "mdi:emoticon-outline",
    }


def _object_id(device: str) -> str:
    """`device` itself where it is an object id; else what it has of one, and a hash of the name, so
    that no two names have the same.
    """
    if re.fullmatch(r"[A-Za-z0-9_-]+", device):
        return device
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", device).strip("_")
    digest = hashlib.sha256(device.encode()).hexdigest()[:_HASH_DIGITS]
    return f"{readable}_{digest}" if readable else digest
