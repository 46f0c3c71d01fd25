#!/usr/bin/env bash
# Kills, starves and breaks the program at every stage and checks that nothing is lost and nothing half there.
#
#   crash.sh [quick|long] [STEP…]     a step is its number or its name, as steps/ has them; all by default
#
# Needs strace, prlimit, python3 and a C compiler; mounts need root. What cannot run here is skipped with its reason, and a
# skip is no pass. A failure is printed with what repeats it: `SEED=N crash.sh MODE STEP` runs its step alone. KILLS=N sets the
# rounds of step 2. Last line: `N passed, N failed`.
set -uo pipefail
shopt -s nullglob
export LC_ALL=C
ulimit -c 0

mode=${1:-quick}
shift || true
here=$(cd "$(dirname "$0")" && pwd)
T=$(realpath "${LORA_SURGERY:-$here/../../.build/release/lora-surgery}")
SEED=${SEED:-1}
RANDOM=$SEED
case $mode in
long) kills=${KILLS:-5000} nth=100000 seeds=500 rounds=200 megabytes=64 ;;
quick) kills=${KILLS:-100} nth=20 seeds=8 rounds=5 megabytes=8 ;;
*) echo "crash.sh [quick|long] [STEP…]" >&2; exit 64 ;;
esac

work=$(mktemp -d "${TMPDIR:-/tmp}/crash.XXXXXX")
mounts=()
release() { for m in "${mounts[@]}"; do umount "$m" 2>/dev/null || umount -l "$m" 2>/dev/null; done; mounts=(); }
clean_up() {
  kill $(jobs -p) 2>/dev/null
  release
  chattr -R -i "$work" 2>/dev/null
  rm -rf "$work"
}
trap clean_up EXIT
trap 'echo "stopped in step $step: $passed passed, $failed failed"; exit 130' INT TERM HUP
chmod 755 "$work"
mkdir "$work"/{in,place,home,tmp,cwd}
mkfifo "$work/never"
in=$work/in place=$work/place

passed=0 failed=0 skipped=0 step=setup
pass() { passed=$((passed + 1)); }
fail() {
  failed=$((failed + 1))
  echo "FAIL $step: $* (SEED=$SEED crash.sh $mode $step)"
  [ -s "$work/err" ] && head -3 "$work/err" | cut -c1-400
  return 0
}
skip() { skipped=$((skipped + 1)); echo "skip $step: $*"; }
# Passes where the command that follows the description succeeds.
holds() { if "${@:2}"; then pass; else fail "$1"; fi; }

has_strace=; strace -o /dev/null true 2>/dev/null && has_strace=1
needs_strace() { [ "$has_strace" ] || { skip "no strace or no ptrace here"; return 1; }; }
needs_root() { [ "$(id -u)" = 0 ] || { skip "not root"; return 1; }; }
shim=$work/faults.so
cc -O1 -shared -fPIC -o "$shim" "$here/faults.c" -ldl 2>"$work/err" || shim=
needs_shim() { [ "$shim" ] || { skip "no C compiler here"; return 1; }; }

# What a path holds: the digest of a file, or of all files of a folder with their names.
sum() {
  if [ -d "$1" ]; then (cd "$1" && find . -type f -print0 | sort -z | xargs -0r sha256sum) | sha256sum | cut -c1-64
  elif [ -e "$1" ] || [ -L "$1" ]; then sha256sum <"$1" | cut -c1-64
  else echo absent; fi
}

# Runs a command in folders of its own; its messages are in $work/err.
run() { (cd "$work/cwd" && HOME=$work/home TMPDIR=$work/tmp exec "$@" 2>"$work/err"); }
# The same under strace: $1 are strace's own words.
traced() { run strace -f -o "$work/trace" $1 "$T" "${command[@]}" 2>/dev/null; }
# The same with faults.c in between: $1 is what it does.
faulty() { run env FAULTS="$1" LD_PRELOAD="$shim" "$T" "${command[@]}"; }

# What is run, and what it writes in the order in which it appears.
subject() {
  subject=$1
  local small=$in/small/base.safetensors adapter=$in/small/adapter
  case $1 in
  merge) outs=("$place/out.safetensors"); command=(merge "$small" "$adapter" -o "${outs[0]}") ;;
  middle | large)
    outs=("$place/out.safetensors"); command=(merge "$in/$1/base.safetensors" "$in/$1/adapter" -o "${outs[0]}") ;;
  undo)
    outs=("$place/merge.undo" "$place/merged")
    command=(merge "$in/sharded/model" "$adapter" -o "${outs[1]}" --undo "${outs[0]}") ;;
  unmerge)
    outs=("$place/back")
    command=(unmerge "$in/merged/model" "$adapter" -o "${outs[0]}" --undo "$in/merged/merge.undo") ;;
  convert) outs=("$place/out.npz"); command=(convert "$small" -o "${outs[0]}" --compress 1) ;;
  gguf) outs=("$place/out.gguf"); command=(convert "$small" -o "${outs[0]}") ;;
  pipeline) outs=("$place/pipeline"); command=(convert "$in/pipeline" -o "${outs[0]}") ;;
  extract)
    outs=("$place/adapter")
    command=(extract --base "$in/sharded/model" --tuned "$in/merged/model" --rank 4 -o "${outs[0]}") ;;
  esac
  command+=(--force -q)
}
subjects="merge undo unmerge convert gguf pipeline extract"

python3 "$here/models.py" "$in" $megabytes || exit 1
mkdir "$in/merged"
"$T" merge "$in/sharded/model" "$in/small/adapter" -o "$in/merged/model" --undo "$in/merged/merge.undo" -q || exit 1
facts_of_inputs() { find "$in" -printf '%p %y %s %m %T@ %l\n' | sort | sha256sum; }
contents_of_inputs() { find "$in" -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum; }
INPUTS=$(facts_of_inputs)
CONTENTS=$(contents_of_inputs)
default_mode=$(printf %o $((0666 & ~0$(umask))))

# What a clean run of each subject writes.
declare -A new
for each in $subjects middle large; do
  subject $each
  rm -rf "${place:?}"/*
  run "$T" "${command[@]}" || { fail "clean run: $T ${command[*]}"; exit 1; }
  for out in "${outs[@]}"; do new[$each:$out]=$(sum "$out"); done
done

# Prepares the outputs as they are before a run: old ones, or none.
prepare() {
  rm -rf "${place:?}"/* "$place"/.*.part
  before=() modes=()
  for out in "${outs[@]}"; do
    if [ "$1" = none ]; then before+=(absent); modes+=("$default_mode")
    else
      case ${out##*/} in *.*) echo "old contents" >"$out"; chmod 640 "$out" ;; *) mkdir "$out"; echo "old contents" >"$out/old" ;; esac
      before+=("$(sum "$out")"); modes+=(640)
    fi
  done
}

# The state check S: $1 exit status, $2 how to repeat, $3 temporaries allowed.
check() {
  local status=$1 what="$subject: $2" allowed=${3:-0} now i parts errors
  case $status in
  0 | 6[4-9] | 7[0-7] | 129 | 130 | 143) ;;
  137) [ "$allowed" -gt 0 ] || { allowed=1; [ "$subject" = undo ] && allowed=2; } ;;
  *) fail "exit $status: $what"; return ;;
  esac
  local changed=0 kept=0
  for i in "${!outs[@]}"; do
    now=$(sum "${outs[i]}")
    if [ "$now" = "${new[$subject:${outs[i]}]}" ]; then
      changed=$((changed + 1))
      # Of two outputs the record is first: a merge without it could not be taken back.
      [ $kept = 0 ] || { fail "exit $status, a later output without the earlier: $what"; return; }
      if [ -f "${outs[i]}" ] && [ "$(stat -c %a "${outs[i]}")" != "${modes[i]}" ]; then
        fail "exit $status, mode $(stat -c %a "${outs[i]}") instead of ${modes[i]}: $what"; return
      fi
    elif [ "$now" = "${before[i]}" ]; then kept=$((kept + 1))
    else fail "exit $status, ${outs[i]} is neither old nor new: $what"; return; fi
  done
  if [ "$status" = 0 ]; then [ $kept = 0 ] || { fail "exit 0 without the new output: $what"; return; }
  elif [ $changed != 0 ] && [ "$status" != 137 ] && [ "${at_once:-}" = "" ] && ! grep -q "not confirmed" "$work/err"; then
    # Between the two renames there is a moment.
    [ "$subject" = undo ] && [ $kept = 1 ] && grep -q rename "$work/err" || { fail "exit $status with the new output: $what"; return; }
  fi
  parts=("$place"/.*.part)
  [ ${#parts[@]} -le "$allowed" ] || { fail "${#parts[@]} temporaries left, exit $status: $what"; return; }
  [ -z "$(find "$work/home" "$work/tmp" "$work/cwd" -mindepth 1)" ] || {
    fail "left something elsewhere: $what: $(find "$work/home" "$work/tmp" "$work/cwd" -mindepth 1)"
    rm -rf "$work"/{home,tmp,cwd}/*; return
  }
  [ "$(facts_of_inputs)" = "$INPUTS" ] || { fail "an input changed: $what"; INPUTS=$(facts_of_inputs); return; }
  if [ "$status" -ge 64 ] && [ "$status" -lt 128 ]; then
    errors=$(grep -c '^lora-surgery: error: ' "$work/err")
    [ "$errors" = 1 ] || { fail "$errors error lines: $what"; return; }
    grep '^lora-surgery: error: ' "$work/err" | grep -qF -e "$work/" -e "intermediate results" -e "command line" -e "address space" || { fail "the error names no path: $what"; return; }
    grep '^lora-surgery: error: ' "$work/err" | grep -qF .part && { fail "the error names a temporary: $what"; return; }
  fi
  [ "$status" = 0 ] || [ "$subject" = large ] || recovers "$what" || return
  pass
}
# A second, undisturbed run succeeds with the leftovers still there.
recovers() {
  local out
  run "$T" "${command[@]}" || { fail "no recovery after $1"; return 1; }
  for out in "${outs[@]}"; do
    [ "$(sum "$out")" = "${new[$subject:$out]}" ] || { fail "another result after $1"; return 1; }
  done
}

all=("$here"/steps/*.sh)
for file in "${all[@]}"; do . "$file"; done
chosen=("$@")
for file in "${all[@]}"; do
  name=$(basename "$file" .sh) number=$((10#${name%%-*}))
  name=${name#*-}
  [ ${#chosen[@]} = 0 ] || [[ " ${chosen[*]} " == *" $number "* || " ${chosen[*]} " == *" $name "* ]] || continue
  step=$number start=$SECONDS earlier=$passed
  "run_$name"
  release
  rm -f "$work/err"
  [ "$(contents_of_inputs)" = "$CONTENTS" ] && pass || fail "an input changed"
  echo "step $number ($name): $((passed - earlier)) passed in $((SECONDS - start)) s"
done
[ $skipped = 0 ] || echo "$skipped skipped"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
