# 8. Many writers of one output, readers while it is replaced, and a writer killed beside a healthy one.
run_concurrent() {
  writers
  readers
  killed_beside
}

# Eight writers with different inputs: the output is one of the eight results, and without --force one alone wins.
writers() {
  local round writer form status wins
  subject merge
  prepare none
  local -A result=()
  for ((writer = 1; writer <= 8; writer++)); do
    run "$T" merge "$in/small/base.safetensors" "$in/small/adapter:0.$writer" -o "$place/$writer.safetensors" -q
    result[$(sum "$place/$writer.safetensors")]=$writer
  done
  holds "eight different results" [ ${#result[@]} = 8 ]
  for ((round = 0; round < rounds; round++)); do
    for form in none --force; do
      prepare none; wins=0
      for ((writer = 1; writer <= 8; writer++)); do
        (cd "$work/cwd" && exec "$T" merge "$in/small/base.safetensors" "$in/small/adapter:0.$writer" -o "${outs[0]}" -q \
          $([ $form = none ] || echo --force) 2>"$work/err.$writer") &
        pids[writer]=$!
      done
      for ((writer = 1; writer <= 8; writer++)); do
        wait "${pids[writer]}"; status=$?
        case $form:$status in
        *:0) wins=$((wins + 1)) ;;
        none:73 | none:75) ;;
        *) cp "$work/err.$writer" "$work/err"; fail "round $round, $form: a writer ended with $status" ;;
        esac
      done
      holds "round $round, $form: the output is none of the eight" [ "${result[$(sum "${outs[0]}")]:-}" ]
      if [ $form = none ]; then holds "round $round: $wins writers won" [ $wins = 1 ]
      else holds "round $round: $wins of 8 writers won with --force" [ $wins = 8 ]; fi
      holds "round $round, $form: temporaries left" [ -z "$(echo "$place"/.*.part)" ]
    done
  done
  rm -f "$work"/err.*
}

# Four readers in a loop see the old or the new output whole, never something between.
readers() {
  local reader round
  subject merge
  prepare none; run "$T" "${command[@]}"
  touch "$work/reading"
  for reader in 1 2 3 4; do
    (while [ -e "$work/reading" ]; do "$T" check "${outs[0]}" -q >"$work/reader.$reader" 2>&1 || { echo "exit $?"; cat "$work/reader.$reader"; }; done) >"$work/seen.$reader" 2>&1 &
    pids[reader]=$!
  done
  for ((round = 0; round < rounds * 2; round++)); do
    run "$T" merge "$in/small/base.safetensors" "$in/small/adapter:0.$((round % 9 + 1))" -o "${outs[0]}" --force -q || fail "round $round beside readers"
  done
  rm "$work/reading"; wait "${pids[@]:1:4}"
  for reader in 1 2 3 4; do
    cp "$work/seen.$reader" "$work/err"
    holds "a reader met a half output" [ ! -s "$work/seen.$reader" ]
  done
  rm -f "$work"/seen.* "$work"/reader.*
}

# One writer is killed again and again, the other ends well, and neither takes the other's temporaries.
killed_beside() {
  local round p
  subject middle; prepare none
  touch "$work/killing"
  (while [ -e "$work/killing" ]; do
    "$T" "${command[@]}" 2>/dev/null & p=$!; sleep 0.05; kill -9 $p; wait $p; done) 2>/dev/null &
  local killer=$!
  for ((round = 0; round < rounds * 2; round++)); do
    holds "round $round: the healthy writer" run "$T" "${command[@]}"
  done
  rm "$work/killing"; wait $killer
  holds "the last output" [ "$(sum "${outs[0]}")" = "${new[middle:${outs[0]}]}" ]
  echo "step 8: $(find "$place" -name '.*.part' | wc -l) temporaries of killed writers"
}
