#!/bin/sh
# Fuzz every reader, then run what was ever found once more.
#
#   Fuzz/run.sh SECONDS [TARGET...]    libFuzzer with address checking, SECONDS for each target
#   Fuzz/run.sh 0                      only the stored inputs, through a plain program
#
# Seeds are the files of fixtures/; what grows from them stays in Fuzz/.corpus. An input that breaks a reader is stored as
# fixtures/regressions/TARGET-… and ends the run with status 1: repair the reader and commit the input.
set -eu
seconds=${1:?usage: run.sh SECONDS [TARGET...]}
shift
here=$(cd "$(dirname "$0")" && pwd)
fixtures=$here/../fixtures
[ $# -gt 0 ] || set -- safetensors index gguf npy npz torch compact
cd "$here"
export SWIFT_BACKTRACE=enable=no # otherwise the runtime takes the crash before libFuzzer can keep its input

product() {
  case $1 in
  safetensors) echo FuzzSafetensors ;;
  index) echo FuzzIndex ;;
  gguf) echo FuzzGGUF ;;
  npy) echo FuzzNpy ;;
  npz) echo FuzzNpz ;;
  torch) echo FuzzTorch ;;
  compact) echo FuzzCompact ;;
  *) echo "run.sh: no target $1" >&2 && exit 64 ;;
  esac
}

seeds() {
  case $1 in
  safetensors) ls "$fixtures"/safetensors/*.safetensors ;;
  index) ls "$fixtures"/index/*.index.json "$here"/seeds/index/* ;;
  gguf) ls "$fixtures"/gguf/*.gguf ;;
  npy) ls "$fixtures"/numpy/*.npy ;;
  npz) ls "$fixtures"/numpy/*.npz ;;
  torch) ls "$fixtures"/torch/*.pt "$fixtures"/torch/*.pth "$fixtures"/torch/*.bin ;;
  compact) ls "$fixtures"/compact/*.lra ;;
  esac
}

mkdir -p "$fixtures/regressions"
if [ "$seconds" -gt 0 ]; then
  # Of several -sanitize options the compiler takes the last, so both names must stand in one.
  for target in "$@"; do
    swift build -c release --scratch-path .build/fuzzer --product "$(product "$target")" \
      --sanitize=fuzzer -Xswiftc -sanitize=fuzzer,address
  done
  for target in "$@"; do
    mkdir -p ".corpus/$target"
    seeds "$target" | while read -r seed; do cp "$seed" ".corpus/$target/"; done
    # 512 MiB cover the sanitizer's own needs; no input of 16 KiB justifies one allocation of 64.
    ".build/fuzzer/release/$(product "$target")" ".corpus/$target" \
      -dict="dictionaries/$target.dict" -artifact_prefix="$fixtures/regressions/$target-" \
      -max_len=16384 -max_total_time="$seconds" -timeout=5 -rss_limit_mb=512 -malloc_limit_mb=64 \
      -print_final_stats=1 2>".corpus/$target.log" ||
      { tail -30 ".corpus/$target.log"; exit 1; }
    grep -E '^(stat::|Done)' ".corpus/$target.log" | sed "s/^/$target: /"
  done
fi
swift build -c release --product Regressions
for target in "$@"; do
  # Without matches the pattern stays, and there is nothing to run.
  set -- "$fixtures/regressions/$target"-*
  [ -e "$1" ] || set --
  .build/release/Regressions "$target" $(seeds "$target") "$@"
done
