#!/usr/bin/env bash
# Builds what the measurements need and runs them; `run.sh --peers` also installs PyTorch to measure against. PYTHON names an
# interpreter to use instead of an environment of its own; where mergekit is installed there, it is measured too.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${BENCH_FOLDER:-.build/bench}
mkdir -p "$folder"
if [ -z "${PYTHON:-}" ]; then
  if [ ! -x "$folder/venv/bin/python" ]; then python3 -m venv "$folder/venv"; fi
  PYTHON=$folder/venv/bin/python
  packages=(numpy ml_dtypes)
  case " $* " in *" --peers "*) packages+=(torch safetensors);; esac
  "$PYTHON" -m pip install --quiet "${packages[@]}"
fi
program="$(swift build -c release --show-bin-path)/lora-surgery"
peers=$(case " $* " in *" --peers "*) echo --peers;; esac)
"$PYTHON" Benchmarks/run.py "$program" "$folder" "$@"
"$PYTHON" Benchmarks/models.py "$program" "$folder"
"$PYTHON" Benchmarks/compact.py "$program" "$folder/compact"
"$PYTHON" Benchmarks/batch.py "$program" "$folder" $peers
"$PYTHON" Benchmarks/mergekit.py "$program" "$folder"
