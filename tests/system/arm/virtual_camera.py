"""What the real picamera2 needs to read libcamera's virtual camera, a folder of photographs, instead of a Pi's sensor.

image.sh puts it beside picamera2, whose last line then is `import virtual_camera`. picamera2 0.3.38 and libcamera 0.4
of Debian 13 differ from a Raspberry Pi in what is patched here, and nowhere else:
1. the frame buffers are memfds, for there is no DMA heap; 2. the pipeline says 0 for the bytes used, so the planes'
lengths count; 3. it has no raw stream to list modes of; 4. it has no clock, so it is held to 5 frames a second; 5. a
request's status is left as malloc found it, and picamera2 drops what is not 0: the service's GLIBC_TUNABLES make it 0
(image.sh). The module pykms, which only a preview on a screen would use, is a stub.
"""

import mmap
import os
import time

import libcamera
from picamera2 import Picamera2, picamera2
from picamera2.allocators import LibcameraAllocator
from picamera2.allocators.allocator import Sync


class _Mapped(Sync):
    def __init__(self, allocator, fb, write):
        self._fb = fb

    def __enter__(self):
        length = sum(plane.length for plane in self._fb.planes)
        self._map = mmap.mmap(self._fb.planes[0].fd, length, mmap.MAP_SHARED, mmap.PROT_READ)
        return self._map

    def __exit__(self, *problem):
        self._map.close()


class _Memory(LibcameraAllocator):
    def __init__(self, camera=None):
        super().__init__(camera)
        self.sync = _Mapped
        self._buffers = {}
        self._open = []

    def allocate(self, configuration, use_case):
        for stream in configuration:
            luma = stream.stride * stream.size.height
            buffers = [self._buffer(luma, stream.frame_size) for _ in range(stream.buffer_count)]
            self._buffers[stream.stream] = buffers

    def _buffer(self, luma, size):
        handle = os.memfd_create("frame")
        os.ftruncate(handle, size)
        self._open.append(handle)
        planes = []
        for offset, length in ((0, luma), (luma, size - luma)):
            plane = libcamera.FrameBuffer.Plane()
            plane.fd = handle
            plane.offset = offset
            plane.length = length
            planes.append(plane)
        return libcamera.FrameBuffer(planes)

    def buffers(self, stream):
        return self._buffers[stream]

    def cleanup(self):
        for handle in self._open:
            os.close(handle)
        self._buffers = {}
        self._open = []


def _modes(self):
    formats = self.camera.generate_configuration([libcamera.StreamRole.Viewfinder]).at(0).formats
    return [
        {"format": str(f), "size": (s.width, s.height)}
        for f in formats.pixel_formats
        for s in formats.sizes(f)
    ]


_configure = Picamera2.configure
_process_requests = Picamera2.process_requests


def _configure_with_camera(self, *arguments, **options):
    self.allocator.camera = self.camera
    return _configure(self, *arguments, **options)


def _process_requests_slowly(self, display):
    time.sleep(1 / 5)
    return _process_requests(self, display)


picamera2.DmaAllocator = _Memory
Picamera2._get_raw_modes = _modes
Picamera2.configure = _configure_with_camera
Picamera2.process_requests = _process_requests_slowly
