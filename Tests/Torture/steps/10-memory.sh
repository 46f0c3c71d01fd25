# 10. Little memory: an address space from 64 MiB upwards, and maps that fail. A trap of Swift's runtime where an allocation fails
# is tolerated, and counted, as long as nothing is half there; so is a loader that does not start. A run that hangs is not.
run_memory() {
  local each size n status traps=0 clean=0 most=$nth
  for each in merge convert extract large; do
    subject $each
    for ((size = 64; size <= 1024; size += 16)); do
      [ $mode = quick ] && [ $((size % 64)) != 0 ] && continue
      prepare old
      run timeout 30 prlimit --as=$((size << 20)) --core=0 "$T" "${command[@]}" 2>/dev/null; status=$?
      little_memory $status "prlimit --as=$((size << 20))"
      [ $status = 0 ] && break
    done
    holds "$each: needs more than 1 GiB of addresses" [ $status = 0 ]
  done
  if needs_strace; then
    subject merge
    [ $mode = quick ] && most=70
    for call in mmap brk clone3; do
      for ((n = 1; n <= most; n++)); do
        [ $mode = quick ] && [ $call = mmap ] && [ $n -lt 40 ] && continue
        prepare old
        traced "-e trace=$call -e inject=$call:error=ENOMEM:when=$n"; status=$?
        grep -q INJECTED "$work/trace" || break
        little_memory $status "strace -f -e inject=$call:error=ENOMEM:when=$n"
      done
    done
  fi
  echo "step 10: $clean runs ended with a status of their own, $traps by a trap of the runtime or in the loader"
  few_files
}

little_memory() {
  case $1 in
  127 | 132 | 133 | 134 | 139 | 1) traps=$((traps + 1)); check 137 "$2 (exit $1)" ;;
  *) clean=$((clean + 1)); check $1 "$2" ;;
  esac
}

# Few open files, few threads, and the buffers that --memory allows.
few_files() {
  local each n
  for each in merge undo pipeline; do
    subject $each
    for n in 4 5 6 8 10 12 16; do
      prepare old
      run prlimit --nofile=$n:$n "$T" "${command[@]}"; status=$?
      [ $status = 127 ] && continue
      check $status "prlimit --nofile=$n"
    done
    for n in 1 1K 64K 1M; do
      prepare old
      run "$T" "${command[@]}" --memory $n; check $? "--memory $n"
    done
  done
}
