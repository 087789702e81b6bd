"""What frames free stays for the next ones."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import numpy as np
from mien_edge.model.bundle import load_bundle, shipped_bundle
from mien_edge.service.run import build_chain, load_model
from mien_edge.settings import Settings
from mien_edge.values import Frame

settings = Settings()
chain = build_chain(settings, load_model(settings, load_bundle(shipped_bundle())))
for height, width in ((480, 640), (1080, 1920)):
    for index in range(40):
        if index == 20:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        picture = np.full((height, width, 3), index * 6, np.uint8)
        chain(Frame(picture, index, index / 15))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's malloc")
def test_frames_take_no_new_memory_of_the_kernel_each():
    variables = {name: os.environ[name] for name in os.environ if "MALLOC" not in name}
    command = [sys.executable, "-c", FAULTS]
    result = subprocess.run(command, capture_output=True, text=True, env=variables, check=True)
    small, large = map(int, result.stdout.split())
    assert small < 20 * 100, "page faults of 20 frames; without memory.keep_freed_memory 46,000"
    assert large < 20 * 100
