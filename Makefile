# make help         this list
# make demo         the main job on a photograph, with the device's packages only
# make test         the whole test suite, in an environment with everything
# make test-edge    the quick tests of the device's room, in a minute, without TensorFlow
# make lint         ruff: rules and format
# make types        mypy
# make edge-only    a fresh installation of the edge extra: the demo runs, and there is no TensorFlow
# make device-test  the kit installed on a Debian with its own systemd and a broker (root, mmdebstrap)
# make fleet        ten devices on loopback updated in waves: the table and the seconds
# make fuzz         spoilt cards, archives and networks for ten minutes
# make e2e          an emulated Raspberry Pi: set up, updated, its power cut CUTS (20) times (root, qemu, an hour)
# make soak         the service for MINUTES (30) at full speed, its camera failing each minute; draws out/soak.png
# make train-speed  seconds an epoch of our training loop and of a plain model.fit, in turn
# make compare      CPU time of a frame: mien, mien at BEFORE (a revision), and two packages of others, in turn
# make check        what has to hold before a change lands: test, lint, types, edge-only, device-test
# make clean        remove the environments and what was built
PYTHON ?= python3
PIP = -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test test-edge lint types edge-only device-test fleet fuzz e2e soak train-speed compare check clean

help:
	@sed -n 's/^# make/make/p' Makefile

demo: .venv-edge/ready
	.venv-edge/bin/mien-edge run demo --annotate out/demo.png

# Three test files at a time: with two cores, one waits while the others compute. TensorFlow's own threads would only
# be in each other's way.
WORKERS ?= 3
ONE_THREAD = OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1
test: .venv/ready .venv-edge/ready .venv-tflite/ready
	$(ONE_THREAD) .venv/bin/pytest --numprocesses $(WORKERS) --dist loadscope --no-loadscope-reorder

test-edge: .venv-edge-test/ready
	.venv-edge-test/bin/pytest -m 'not slow and not system' tests/edge tests/test_rooms.py tests/test_walls.py

lint: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types: .venv/ready
	.venv/bin/mypy

edge-only:
	tests/system/edge_only.sh $(PYTHON)

device-test: .venv/ready
	PYTHONPATH=tests tests/system/device_test.sh .venv/bin/python

MINUTES ?= 30
soak: .venv/ready
	PYTHONPATH=tests .venv/bin/python tests/system/soak.py $(MINUTES) out/soak.png

train-speed: .venv/ready
	PYTHONPATH=edge:train .venv/bin/python tests/system/training_speed.py

compare: .venv/ready
	.venv/bin/python tests/system/others/compare.py $(if $(BEFORE),--before $(BEFORE))

fleet: .venv/ready
	PYTHONPATH=tests:edge:train:deploy .venv/bin/python tests/system/fleet.py

fuzz: .venv/ready
	PYTHONPATH=tests:edge .venv/bin/python tests/system/fuzz.py 10

e2e: .venv/ready
	PYTHONPATH=tests tests/system/e2e.sh .venv/bin/python

# Environments are made beside each other, for they wait on network and disk; so are the short checks. The device test has
# the machine for itself, last: in its box a real probation judges how fast a model is.
check:
	$(MAKE) --jobs 2 --output-sync .venv/ready .venv-edge/ready .venv-tflite/ready
	$(MAKE) test
	$(MAKE) --jobs 2 --output-sync lint types edge-only
	$(MAKE) device-test

# pip 25.1 is the first that reads dependency groups.
.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python $(PIP) 'pip>=25.1'
	.venv/bin/python $(PIP) -e '.[edge,train,deploy,heic]' --group test --group lint
	touch $@

.venv-edge/ready: pyproject.toml
	$(PYTHON) -m venv .venv-edge
	.venv-edge/bin/python $(PIP) -e '.[edge]'
	touch $@

# .venv-edge stays what a device has; this one has pytest as well.
.venv-edge-test/ready: pyproject.toml
	$(PYTHON) -m venv .venv-edge-test
	.venv-edge-test/bin/python $(PIP) 'pip>=25.1'
	.venv-edge-test/bin/python $(PIP) -e '.[edge]' --group test-edge
	touch $@

# The second interpreter, alone: it has wheels up to Python 3.11 only. The tests that need it skip where it is absent.
# picamera2 is unpacked without what it needs, to compare its real signatures with the adapter's.
.venv-tflite/ready: pyproject.toml
	$(PYTHON) -m venv .venv-tflite
	.venv-tflite/bin/python $(PIP) 'tflite-runtime==2.14.0' 'numpy<2' || echo 'no tflite-runtime for this Python'
	.venv-tflite/bin/python $(PIP) --no-deps --target .venv-tflite/picamera2 'picamera2==0.3.38'
	touch $@

clean:
	rm -rf .venv .venv-edge .venv-edge-test .venv-tflite out dist
