# 11. Faults on top of faults.
run_stacked() {
  needs_strace || return
  local each call status n
  # Killed while a failed run cleans up.
  for each in merge undo pipeline convert; do
    subject $each
    for call in pwrite64 fsync; do
      for n in 1 2 3; do
        prepare old
        { traced "-e trace=$call,unlink -e inject=$call:error=EIO:when=$n -e inject=unlink:signal=SIGKILL:when=1"; status=$?; } 2>/dev/null
        check $status "EIO in $call $n, killed in the unlink that follows" 3
      done
    done
  done
  # The name of the temporary is taken already: another is picked, and what is there stays.
  for each in pipeline extract; do
    subject $each
    prepare old
    traced "-e trace=mkdir -e inject=mkdir:error=EEXIST:when=1"; status=$?
    holds "$each: exit $status where the temporary's name was taken" [ $status = 0 ]
    check $status "mkdir of the temporary: EEXIST"
  done
  for each in merge convert gguf; do
    subject $each
    prepare old
    traced "-e trace=openat"
    n=$(grep -c '^[0-9]* *openat' <(sed '/O_EXCL/q' "$work/trace"))
    prepare old
    traced "-e trace=openat -e inject=openat:error=EEXIST:when=$n"; status=$?
    holds "$each: exit $status where the temporary's name was taken" [ $status = 0 ]
    check $status "openat of the temporary: EEXIST"
  done
  subject merge
  # A full disk, and the request to stop in the cleaning up that follows.
  if needs_shim && needs_root; then
    mkdir -p "$work/disk"
    if mount -t tmpfs -o size=600k tmpfs "$work/disk" 2>/dev/null; then
      mounts=("$work/disk")
      for call in fallocate:1 ftruncate:1 unlink:1; do
        for signal in 15 15:2; do
          prepare none
          { run env FAULTS="signal=${call%:*}:1:$signal" LD_PRELOAD="$shim" "$T" "${command[@]}" --output "$work/disk/out.safetensors"; status=$?; } 2>/dev/null
          holds "a full disk and a signal in $call: exit $status" eval '[ $status = 74 -o $status = 143 ] && [ -z "$(ls -A "$work/disk")" ]'
        done
      done
      release
    else skip "cannot mount"; fi
  fi
  # The folder goes away while the output is made.
  needs_shim || return
  for call in pwrite:2 fsync:1 renameat2:1; do
    prepare none
    (cd "$work/cwd" && FAULTS="pause=$call:$work/paused" LD_PRELOAD=$shim exec "$T" "${command[@]}" 2>"$work/err") & p=$!
    while [ ! -e "$work/paused" ] && kill -0 $p 2>/dev/null; do read -r -t 0.002 <>"$work/never"; done
    rm -rf "${place:?}"; mkdir "$place"; rm -f "$work/paused"; wait $p; status=$?
    [ $status = 74 ] || [ $status = 73 ]; holds "the folder vanished at $call: exit $status" [ $? = 0 ]
  done
}
