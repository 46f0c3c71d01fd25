# 9. The input changes while it is read.
run_inputs() {
  needs_shim || return
  local each change call n status moving p
  for each in small large; do
    subject merge
    [ $each = large ] && subject large
    for change in truncate append overwrite rename delete; do
      # At the first tensor's bytes, midway, and when all is written.
      local moments="pread:12 pread:30 pwrite:4 fsync:1"
      [ $mode$each = quicklarge ] && moments="pread:30 fsync:1"
      for n in $moments; do
        prepare old
        mkdir "$work/moving"; moving=$work/moving/base.safetensors
        cp --sparse=always "$in/$each/base.safetensors" "$moving"
        (cd "$work/cwd" && FAULTS="pause=$n:$work/paused" LD_PRELOAD=$shim exec "$T" "${command[0]}" "$moving" "${command[@]:2}" 2>"$work/err") & p=$!
        while [ ! -e "$work/paused" ] && kill -0 $p 2>/dev/null; do read -r -t 0.002 <>"$work/never"; done
        [ -e "$work/paused" ] || { wait $p; fail "$each: $n is never reached"; rm -rf "$work/moving"; continue; }
        case $change in
        truncate) truncate -s $(($(stat -c %s "$moving") / 2)) "$moving" ;;
        append) echo more >>"$moving" ;;
        overwrite) head -c 1M /dev/urandom | dd of="$moving" bs=64K seek=2 conv=notrunc status=none ;;
        rename) cp --sparse=always "$moving" "$work/other"; mv "$work/other" "$moving" ;;
        delete) rm "$moving" ;;
        esac
        rm "$work/paused"; wait $p; status=$?
        case $change in
        rename | delete) holds "$each: $change at $n: exit $status" [ $status = 0 ] ;;
        *)
          holds "$each: $change at $n: exit $status" [ $status = 74 ]
          holds "$each: $change at $n is not said" grep -q 'changed while reading' "$work/err" ;;
        esac
        rm -rf "$work/moving"
        # A recovery would want the input back, which is gone.
        status_only $status "$each: $change at $n"
      done
    done
  done
}

# The part of the state check that needs no second run.
status_only() {
  local now; now=$(sum "${outs[0]}")
  if [ $1 = 0 ]; then holds "$2: exit 0 without the new output" [ "$now" = "${new[$subject:${outs[0]}]}" ]
  else holds "$2: exit $1, the old output is gone" [ "$now" = "${before[0]}" ]; fi
  holds "$2: temporaries left" [ -z "$(echo "$place"/.*.part)" ]
}
