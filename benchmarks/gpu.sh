#!/usr/bin/env bash
# Everything there is to measure on a GPU, in under eight minutes: bash benchmarks/gpu.sh
# Arguments go on to gpu.py; on a machine without a GPU: --device cpu --shape tiny --tokens 16
# PYTHON names another interpreter than python3.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHONPATH="src${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python3}" benchmarks/gpu.py "$@"
