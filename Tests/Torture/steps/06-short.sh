# 6. Short writes, a kernel that lies about the header, and power that fails.
run_short() {
  needs_shim || return
  local each size status
  for each in $subjects; do
    subject $each
    for size in 1 777 4095; do
      prepare old
      faulty short=$size; status=$?
      holds "$each: exit $status with writes of $size bytes" [ $status = 0 ]
      check $status "FAULTS=short=$size"
    done
  done
  subject large
  for size in 4095 65536 1000000; do prepare old; faulty short=$size; check $? "FAULTS=short=$size"; done
  lies
  power
}

# The header is read back before the rename. Data is not: that would cost another pass over the output.
lies() {
  for each in merge large; do
    subject $each
    prepare old
    faulty lie=1; status=$?
    holds "$each: exit $status, not 74, where the header lost a byte" [ $status = 74 ]
    check $status "FAULTS=lie=1"
  done
}

# Whatever was not flushed when the power failed may be zeros, cut or nameless. Old or new it is all the same, because a name
# changes only after a flush.
power() {
  local each seed calls status many=$seeds
  for each in merge undo pipeline convert extract large; do
    subject $each
    [ $each = large ] && many=$((seeds / 20 + 1))
    prepare old; faulty count="$work/count"; calls=$(cat "$work/count")
    for ((seed = 1; seed <= many; seed++)); do
      prepare $([ $((seed % 2)) = 0 ] && echo old || echo none)
      { faulty power=$seed:$((RANDOM % calls + 1)); status=$?; } 2>/dev/null
      check $status "FAULTS=power=$seed of $calls calls"
    done
    # The last calls, where the names change, one by one.
    for ((seed = calls; seed > 0 && seed > calls - (seeds < 100 ? 6 : 20); seed--)); do
      prepare old
      { faulty power=$seed:$seed; status=$?; } 2>/dev/null
      check $status "FAULTS=power=$seed:$seed"
    done
  done
}
