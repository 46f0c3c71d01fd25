#!/usr/bin/env bash
# Kills, starves and breaks merge and unmerge at every stage and checks that nothing is lost and nothing half there.
#
#   crash.sh [quick|long] [STEP…]     steps: reference kill signals errors disk size places inputs
#
# Needs strace, prlimit and python3; mount needs root. A step that cannot run here is skipped with its reason, and a
# skip is no pass. Prints every failing command with what repeats it, and last `N passed, N failed, N skipped`.
set -uo pipefail
shopt -s nullglob
export LC_ALL=C

mode=${1:-quick}
shift || true
steps=${*:-reference kill signals errors disk size places inputs}
root=$(cd "$(dirname "$0")/../.." && pwd)
T=${LORA_SURGERY:-$root/.build/release/lora-surgery}
RANDOM=${SEED:-1}
[ "$mode" = long ] && { kills=2000 nth=100000 sizes=64; } || { kills=100 nth=20 sizes=8; }

work=$(mktemp -d "${TMPDIR:-/tmp}/crash.XXXXXX")
mounts=()
clean_up() {
  for m in "${mounts[@]}"; do umount "$m" 2>/dev/null; done
  chattr -i "$work"/*/ 2>/dev/null
  rm -rf "$work"
}
trap clean_up EXIT
passed=0 failed=0 skipped=0
fail() { failed=$((failed + 1)); echo "FAIL $step: $*"; [ -s "$work/err" ] && head -3 "$work/err"; return 0; }
pass() { passed=$((passed + 1)); }
skip() { skipped=$((skipped + 1)); echo "skip $step: $*"; }
sum() { [ -e "$1" ] && sha256sum <"$1" | cut -c1-64 || echo absent; }

python3 - "$work" "$([ "$mode" = long ] && echo 64 || echo 1)" <<'PY'
import json, os, struct, sys
folder, megabytes = sys.argv[1], int(sys.argv[2])
def write(path, tensors, metadata=None):
    header, position = ({"__metadata__": metadata} if metadata else {}), 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, position + len(data)]}
        position += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, (_, _, data) in tensors.items(): f.write(data)
state = 1
def pattern(count, low=0x3C00, span=0x300):
    global state
    out = bytearray()
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) & (2**64 - 1)
        out += struct.pack("<H", (low + (state >> 33) % span) | (0x8000 if state >> 63 else 0))
    return bytes(out)
n = 256
data = pattern(n * n)
model = {f"layers.{i}.q_proj.weight": ("BF16", [n, n], data) for i in range(4 * megabytes)}
model.update({f"layers.{i}.other.weight": ("BF16", [n, n], data) for i in range(4 * megabytes)})
write(f"{folder}/base.safetensors", dict(sorted(model.items())))
os.mkdir(f"{folder}/adapter")
low = pattern(n * 4)
adapter = {}
for i in range(4 * megabytes):
    adapter[f"base_model.model.layers.{i}.q_proj.lora_A.weight"] = ("BF16", [4, n], low)
    adapter[f"base_model.model.layers.{i}.q_proj.lora_B.weight"] = ("BF16", [n, 4], low)
write(f"{folder}/adapter/adapter_model.safetensors", dict(sorted(adapter.items())))
json.dump({"peft_type": "LORA", "r": 4, "lora_alpha": 1, "target_modules": ["q_proj"]}, open(f"{folder}/adapter/adapter_config.json", "w"))
os.mkdir(f"{folder}/sharded")
names = sorted(model)
index = {}
for shard in range(3):
    part = names[shard::3]
    name = f"model-{shard + 1:05}-of-00003.safetensors"
    write(f"{folder}/sharded/{name}", {k: model[k] for k in part})
    index.update({k: name for k in part})
json.dump({"metadata": {}, "weight_map": index}, open(f"{folder}/sharded/model.safetensors.index.json", "w"))
json.dump({"model_type": "test"}, open(f"{folder}/sharded/config.json", "w"))
PY

out=$work/place/out.safetensors
mkdir "$work/place"
command=(merge "$work/base.safetensors" "$work/adapter" -o "$out" --force -q)
step=reference
"$T" "${command[@]}" 2>"$work/err" || { fail "clean run: $T ${command[*]}"; exit 1; }
NEW=$(sum "$out")
echo "old contents" >"$work/old"
OLD=$(sum "$work/old")
inputs_sum() { cat "$work/base.safetensors" "$work"/adapter/* "$work"/sharded/* | sha256sum; }
INPUTS=$(inputs_sum)

# Prepares the output as it is before a run: an old file, or none.
prepare() { rm -rf "$work/place" 2>/dev/null; mkdir -p "$work/place"; [ "$1" = old ] && cp "$work/old" "$out"; BEFORE=$(sum "$out"); }

# The state check: $1 exit status, $2 how to repeat, $3 temporaries allowed, $4 "unconfirmed" where the folder's flush may fail.
check() {
  local status=$1 what=$2 allowed=${3:-0} now parts
  now=$(sum "$out")
  parts=("$work"/place/.*.part)
  case $status in 0 | 6[4-9] | 7[0-7] | 129 | 130 | 143) ;; 137) allowed=1 ;; *) fail "exit $status: $what"; return ;; esac
  if [ "$status" = 0 ]; then [ "$now" = "$NEW" ] || { fail "exit 0 without the new output: $what"; return; }
  elif [ "$now" != "$BEFORE" ]; then
    if [ "$status" = 137 ] && [ "$now" = "$NEW" ]; then :
    elif [ "$now" = "$NEW" ] && grep -q "not confirmed" "$work/err"; then :
    else fail "exit $status, output neither old nor confirmed: $what"; return; fi
  fi
  [ ${#parts[@]} -le "$allowed" ] || { fail "${#parts[@]} temporaries left: $what"; return; }
  if [ "$status" -ge 64 ] && [ "$status" -lt 128 ] && [ "$(grep -c '^lora-surgery: error: ' "$work/err")" != 1 ]; then
    fail "not one error line: $what"; return
  fi
  pass
}
# A second, undisturbed run succeeds with the leftovers still there.
recovers() { "$T" "${command[@]}" 2>"$work/err" && [ "$(sum "$out")" = "$NEW" ] || fail "no recovery: $1"; }

run_reference() {
  prepare old
  strace -f -o "$work/trace" -e trace=openat,write,pwrite64,fsync,rename,renameat2 "$T" "${command[@]}" 2>"$work/err"
  check $? "$T ${command[*]}"
  python3 - "$work/trace" "$out" <<'PY' && pass || fail "order of calls"
import re, sys
lines = open(sys.argv[1]).read().splitlines()
calls = [l for l in lines if re.search(r"\b(fsync|rename\w*)\(", l)]
kinds = [re.search(r"\b(fsync|rename)", l).group(1) for l in calls]
rename = kinds.index("rename")
assert "fsync" in kinds[:rename] and "fsync" in kinds[rename + 1:], kinds
assert not any("O_TRUNC" in l and sys.argv[2] in l for l in lines)
PY
  for form in old none; do
    prepare $form
    "$T" merge "$work/sharded" "$work/adapter" -o "$work/place/folder" -q --undo "$work/place/undo" 2>"$work/err" || fail "sharded merge"
    "$T" unmerge "$work/place/folder" "$work/adapter" -o "$work/place/back" -q --undo "$work/place/undo" 2>"$work/err" || fail "sharded unmerge"
    "$T" compare "$work/place/back" "$work/sharded" -q && pass || fail "sharded round trip"
  done
}

run_kill() {
  local start end clean hit=0
  prepare none; start=$(date +%s%N); "$T" "${command[@]}"; end=$(date +%s%N); clean=$(((end - start) / 1000))
  for ((i = 0; i < kills; i++)); do
    prepare $([ $((i % 2)) = 0 ] && echo old || echo none)
    local delay=$((RANDOM * 32768 + RANDOM)); delay=$((delay % (clean * 6 / 5 + 1)))
    "$T" "${command[@]}" 2>"$work/err" & p=$!
    sleep "$(printf '0.%06d' $((delay % 1000000)))"
    kill -9 $p 2>/dev/null; wait $p 2>/dev/null; status=$?
    [ "$(sum "$out")" = "$NEW" ] && hit=$((hit + 1))
    check $status "kill -9 after $delay us (SEED=${SEED:-1}, round $i)"
    [ $((i % 20)) = 0 ] && recovers "kill -9 round $i"
  done
  echo "kill: $hit of $kills rounds ended with the new output"
  for call in pwrite64 copy_file_range fsync renameat2 rename fchmod; do
    for ((n = 1; n <= nth; n++)); do
      prepare old
      { strace -f -o "$work/trace" -e trace=$call -e inject=$call:signal=SIGKILL:when=$n "$T" "${command[@]}" 2>"$work/err"; status=$?; } 2>/dev/null
      check $status "strace -f -e inject=$call:signal=SIGKILL:when=$n"
      grep -q 'SIGKILL' "$work/trace" || break
    done
  done
}

run_signals() {
  for signal in TERM INT HUP; do
    for call in pwrite64 fsync; do
      for n in 1 2 3; do
        prepare old
        strace -f -o "$work/trace" -e trace=$call -e inject=$call:signal=SIG$signal:when=$n "$T" "${command[@]}" 2>"$work/err"
        check $? "inject=$call:signal=SIG$signal:when=$n"
      done
    done
  done
}

run_errors() {
  for call in openat pwrite64 ftruncate fallocate fchmod fsync close rename renameat2 unlink pread64 fstat newfstatat copy_file_range; do
    errors="EIO ENOSPC EACCES EMFILE ENOMEM"; [ "$mode" = long ] && errors="$errors EDQUOT EXDEV EBUSY EROFS"
    case $call in pwrite64 | pread64 | fsync | fallocate) errors="$errors EINTR" ;; esac
    for error in $errors; do
      local limit=$nth; [ "$mode" = quick ] && case $error in EIO | EINTR) ;; *) limit=2 ;; esac
      for ((n = 1; n <= limit; n++)); do
        local more=("$n"); [ "$error" != EINTR ] && [ "$mode" = long ] && more=("$n" "$n+")
        for when in "${more[@]}"; do
          prepare old
          strace -f -o "$work/trace" -e trace=$call -e inject=$call:error=$error:when=$when "$T" "${command[@]}" 2>"$work/err"; status=$?
          grep -q INJECTED "$work/trace" || break 2
          # The loader met it: this program was not there yet.
          if grep -q 'shared librar' "$work/err" || { [ $call = openat ] && ! grep -q base.safetensors "$work/trace"; }; then continue; fi
          case $status in 132 | 134 | 139) grep -q 'lora-surgery: error' "$work/err" || { [ $call = openat ] || [ $call = fstat ] || [ $call = newfstatat ] || [ $call = close ]; } && continue ;; esac
          if [ "$error" = EINTR ] && [ $status != 0 ]; then fail "EINTR is not retried: inject=$call:error=EINTR:when=$when"; continue; fi
          local allowed=0; [ $call = unlink ] && allowed=1
          check $status "strace -f -e inject=$call:error=$error:when=$when" $allowed
        done
      done
    done
  done
}

run_disk() {
  mkdir -p "$work/disk"
  local need=$((($(stat -c %s "$work/base.safetensors") / 4096 + 2) * 4))
  for ((i = 0; i < sizes; i++)); do
    local free=$((need - 64 * (sizes - i) / sizes - 8 + i))
    mount -t tmpfs -o size=${free}k tmpfs "$work/disk" 2>/dev/null || { skip "cannot mount"; return; }
    mounts+=("$work/disk")
    "$T" merge "$work/base.safetensors" "$work/adapter" -o "$work/disk/out.safetensors" -q 2>"$work/err"; status=$?
    left=$(find "$work/disk" -mindepth 1 | wc -l)
    if [ $status = 0 ]; then [ "$(sum "$work/disk/out.safetensors")" = "$NEW" ] && pass || fail "exit 0 on ${free}k"
    elif [ $status = 74 ] && [ "$left" = 0 ] && grep -q 'bytes free' "$work/err"; then pass
    else fail "full disk of ${free}k: exit $status, $left files left"; fi
    # The record on the full disk, the model elsewhere.
    "$T" merge "$work/base.safetensors" "$work/adapter" -o "$work/place/with-undo.safetensors" --force --undo "$work/disk/undo" -q 2>"$work/err"; status=$?
    case $status in 0) [ -s "$work/disk/undo" ] && pass || fail "no record" ;; 74) [ -e "$work/disk/undo" ] && fail "half a record" || pass ;; *) fail "record on a full disk: exit $status" ;; esac
    umount "$work/disk"; mounts=()
  done
}

run_size() {
  local need; need=$(stat -c %s "$work/base.safetensors")
  for limit in 0 1 8 1000 $((need / 2)) $((need - 1)); do
    prepare old
    # Through a pipe, since the limit holds for the file of messages too.
    { prlimit --fsize=$limit "$T" "${command[@]}" 2>&1; echo $? >"$work/status"; } | cat >"$work/err"; status=$(cat "$work/status")
    [ $status = 74 ] || fail "prlimit --fsize=$limit: exit $status"
    check $status "prlimit --fsize=$limit"
  done
}

# Runs a merge to $1 that must end with status $2 and leave the inputs and $3 as they are.
refused() {
  "$T" merge "$work/base.safetensors" "$work/adapter" -o "$1" -q "${@:4}" 2>"$work/err"; local status=$?
  [[ " $2 " == *" $status "* ]] && pass || fail "output $1: exit $status instead of $2"
}
run_places() {
  prepare none
  ln -s "$work/old" "$work/place/link.safetensors"; refused "$work/place/link.safetensors" "73" "" --force
  ln -s "$work/nowhere" "$work/place/dangling.safetensors"; refused "$work/place/dangling.safetensors" "73" "" --force
  mkfifo "$work/place/fifo.safetensors"; refused "$work/place/fifo.safetensors" "73" "" --force
  mkdir "$work/place/folder.safetensors"; refused "$work/place/folder.safetensors" "73" "" --force
  refused "$work/place/absent/out.safetensors" "73"
  refused "$work/base.safetensors" "65" "" --force
  (cd "$work" && refused ./base.safetensors "65" "" --force)
  ln "$work/base.safetensors" "$work/place/hard.safetensors"; refused "$work/place/hard.safetensors" "65" "" --force
  cp "$work/old" "$work/place/exists.safetensors"; refused "$work/place/exists.safetensors" "73"
  [ "$(sum "$work/place/exists.safetensors")" = "$OLD" ] && pass || fail "an existing output changed"
  if [ "$(id -u)" = 0 ]; then
    mkdir -p "$work/closed"; chmod 555 "$work/closed"; chmod 755 "$work"
    setpriv --reuid=65534 --regid=65534 --clear-groups "$T" merge "$work/base.safetensors" "$work/adapter" -o "$work/closed/o.safetensors" -q 2>"$work/err"; status=$?
    [ $status = 77 ] && pass || { [ $status = 126 ] || [ $status = 127 ] && skip "the program is not readable for others" || fail "closed folder: exit $status"; }
    mkdir -p "$work/readonly"
    if mount -t tmpfs -o ro tmpfs "$work/readonly" 2>/dev/null; then
      mounts+=("$work/readonly"); refused "$work/readonly/o.safetensors" "73"; umount "$work/readonly"; mounts=()
    else skip "cannot mount"; fi
    touch "$work/place/bound.safetensors"
    if mount --bind "$work/old" "$work/place/bound.safetensors" 2>/dev/null; then
      mounts+=("$work/place/bound.safetensors"); refused "$work/place/bound.safetensors" "73" "" --force; umount "$work/place/bound.safetensors"; mounts=()
    else skip "cannot bind"; fi
  else skip "not root"; fi
}

# The input changes while it is read: a delayed write gives the time.
run_inputs() {
  for change in truncate append overwrite rename delete; do
    prepare old; cp "$work/base.safetensors" "$work/moving.safetensors"
    strace -f -o /dev/null -e trace=fsync -e inject=fsync:delay_enter=400000 "$T" merge "$work/moving.safetensors" "$work/adapter" -o "$out" --force -q 2>"$work/err" & p=$!
    sleep 0.25
    case $change in
    truncate) truncate -s 1000 "$work/moving.safetensors" ;;
    append) echo more >>"$work/moving.safetensors" ;;
    overwrite) printf x | dd of="$work/moving.safetensors" bs=1 seek=2000 conv=notrunc 2>/dev/null ;;
    rename) cp "$work/moving.safetensors" "$work/other"; mv "$work/other" "$work/moving.safetensors" ;;
    delete) rm "$work/moving.safetensors" ;;
    esac
    wait $p; status=$?
    case $change in rename | delete) [ $status = 0 ] && pass || fail "$change while reading: exit $status" ;;
    *) [ $status = 74 ] && [ "$(sum "$out")" = "$OLD" ] && pass || fail "$change while reading: exit $status" ;; esac
  done
}

for step in $steps; do
  case $step in kill | signals | errors | reference | inputs)
    if ! strace -o /dev/null true 2>/dev/null; then skip "no strace here"; continue; fi ;; esac
  "run_$step"
done
step=inputs-unchanged
[ "$(inputs_sum)" = "$INPUTS" ] && pass || fail "an input changed"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
