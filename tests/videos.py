"""Video files for tests, made by ffmpeg, and what ffprobe says of them."""

import json
import shutil
import subprocess

import pytest

VARIABLE = ["-vf", "setpts='if(lt(N,30),N/30,1+(N-30)*0.37)/TB'", "-fps_mode", "vfr"]
"""Thirty frames in the first second, then one each 0.37 seconds: 40 frames in 4.7 seconds."""


def require_ffmpeg():
    """Skip the test where ffmpeg is not installed."""
    if not (shutil.which("ffmpeg") and shutil.which("ffprobe")):
        pytest.skip("ffmpeg is not installed")


def make_video(path, options, picture=None, pattern="testsrc=size=64x48:rate=30"):
    """Write 40 frames, 30 to a second unless `options` say otherwise; of a picture's file, or of a pattern of ffmpeg's."""
    require_ffmpeg()
    source = ["-f", "lavfi", "-i", pattern]
    if picture is not None:
        source = ["-loop", "1", "-framerate", "30", "-i", str(picture)]
    command = ["ffmpeg", "-loglevel", "error", *source, "-frames:v", "40", *options, str(path)]
    subprocess.run(command, check=True)
    return path


def probe_times(path):
    """The presentation times of all frames, in seconds."""
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries"]
    command += ["frame=pts_time", "-of", "json", str(path)]
    answer = subprocess.run(command, check=True, capture_output=True)
    return [float(frame["pts_time"]) for frame in json.loads(answer.stdout)["frames"]]
