# 2. kill -9 at random moments and at every call, and the signals that ask to stop.
run_kill() {
  kills_at_random middle $kills
  kills_at_random large $((kills / 25))
  kills_at_random undo $((kills / 5))
  if needs_strace; then kills_at_calls; fi
  if needs_shim; then signals; fi
}

# $2 rounds of subject $1, the delays spread over 0…1.2 times a clean run.
kills_at_random() {
  subject $1
  local start end clean=0 i delay old=0 fresh=0 status last=${outs[${#outs[@]} - 1]}
  for i in 1 2 3; do
    prepare none; start=${EPOCHREALTIME/./}; run "$T" "${command[@]}"; end=${EPOCHREALTIME/./}; clean=$((clean + (end - start) / 3))
  done
  for ((i = 0; i < $2; i++)); do
    prepare $([ $((i % 2)) = 0 ] && echo old || echo none)
    delay=$((RANDOM * 32768 + RANDOM)) delay=$((delay % (clean * 6 / 5 + 1)))
    { (cd "$work/cwd" && HOME=$work/home TMPDIR=$work/tmp exec "$T" "${command[@]}" 2>"$work/err") & p=$!
      read -r -t "$(printf '%d.%06d' $((delay / 1000000)) $((delay % 1000000)))" <>"$work/never"
      kill -9 $p; wait $p; status=$?; } 2>/dev/null
    [ "$(sum "$last")" = "${new[$1:$last]}" ] && fresh=$((fresh + 1)) || old=$((old + 1))
    check $status "kill -9 after $delay us, round $i"
  done
  echo "step 2: $1: $old of $2 rounds ended with the old output, $fresh with the new, delays of 0 to $((clean * 6 / 5)) us"
  # A handful of rounds may miss by chance.
  if [ "$2" -lt 50 ]; then return
  elif [ $((old * 5)) -ge "$2" ] && [ $((fresh * 20)) -ge "$2" ]; then pass
  # So few rounds miss it where the machine has other work meanwhile, which says nothing about the program.
  elif [ $mode = quick ]; then skip "$1: the delays missed the window"
  else fail "$1: the delays missed the window"; fi
}

kills_at_calls() {
  local each call n most=$nth
  for each in $subjects large; do
    subject $each
    [ $mode = quick ] && case $each in merge) most=12 ;; undo | large) most=2 ;; *) continue ;; esac
    for call in openat pwrite64 copy_file_range ftruncate fallocate fchmod fsync renameat2 rename unlink mkdir; do
      for ((n = 1; n <= most; n++)); do
        prepare old
        { traced "-e trace=$call -e inject=$call:signal=SIGKILL:when=$n"; status=$?; } 2>/dev/null
        check $status "strace -f -e inject=$call:signal=SIGKILL:when=$n"
        grep -q 'killed by SIGKILL' "$work/trace" || break
      done
    done
  done
}

# SIGTERM, SIGINT and SIGHUP, and SIGINT twice, before the Nth call. The signal goes to the process: strace's would go to a
# thread that does not take it.
signals() {
  local each call n signal most=$nth status
  for each in $subjects large; do
    subject $each
    [ $mode = quick ] && case $each in merge) most=4 ;; undo) most=1 ;; *) continue ;; esac
    for call in open pwrite pread copy_file_range fsync fchmod renameat2 unlink; do
      for signal in 15 2 1 2:2; do
        for ((n = 1; n <= most; n++)); do
          [ "$mode" = long ] && [ $n -gt 20 ] && [ $((n % 10)) != 0 ] && continue
          prepare old
          { faulty "signal=$call:$n:$signal"; status=$?; } 2>/dev/null
          # The second signal ends the program at once, also when the new output is there already.
          local at_once=; [ $signal = 2:2 ] && at_once=1
          check $status "FAULTS=signal=$call:$n:$signal LD_PRELOAD=faults.so"
          [ $status != 0 ] || break
        done
      done
    done
  done
  # A signal that was ignored before stays ignored.
  subject merge; prepare old
  (trap '' HUP; faulty signal=pwrite:1:1); check $? "an ignored SIGHUP"
  holds "an ignored SIGHUP stopped the work" [ "$(sum "${outs[0]}")" = "${new[merge:${outs[0]}]}" ]
}
