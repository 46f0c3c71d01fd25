#!/usr/bin/env bash
# Builds what the measurements need and runs them; `run.sh --peers` also installs PyTorch to measure against.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${BENCH_FOLDER:-.build/bench}
mkdir -p "$folder"
if [ ! -x "$folder/venv/bin/python" ]; then python3 -m venv "$folder/venv"; fi
packages=(numpy ml_dtypes)
case " $* " in *" --peers "*) packages+=(torch safetensors);; esac
"$folder/venv/bin/python" -m pip install --quiet "${packages[@]}"
program="$(swift build -c release --show-bin-path)/lora-surgery"
peers=$(case " $* " in *" --peers "*) echo --peers;; esac)
"$folder/venv/bin/python" Benchmarks/run.py "$program" "$folder" "$@"
"$folder/venv/bin/python" Benchmarks/models.py "$program" "$folder"
"$folder/venv/bin/python" Benchmarks/compact.py "$program" "$folder/compact"
"$folder/venv/bin/python" Benchmarks/batch.py "$program" "$folder" $peers
