# 7. Places that refuse an output, and outputs on top of inputs.

# A merge to $1 that ends with one of the statuses $2.
refused() {
  run "$T" merge "$in/small/base.safetensors" "$in/small/adapter" -o "$1" -q "${@:3}"; local status=$?
  [[ " $2 " == *" $status "* ]] || { fail "output $1: exit $status instead of $2"; return; }
  [ "$(grep -c '^lora-surgery: error: ' "$work/err")" = 1 ] || { fail "output $1: not one error line"; return; }
  [ "$(facts_of_inputs)" = "$INPUTS" ] && pass || fail "output $1: an input changed"
}

run_places() {
  local base=$in/small/base.safetensors p=$place name
  subject merge; prepare none
  echo "old contents" >"$work/old"
  ln -s "$work/old" "$p/link.safetensors"; refused "$p/link.safetensors" 73 --force
  ln -s "$work/nowhere" "$p/dangling.safetensors"; refused "$p/dangling.safetensors" 73 --force
  holds "a dangling link was followed" [ ! -e "$work/nowhere" ]
  mkfifo "$p/fifo.safetensors"; refused "$p/fifo.safetensors" 73 --force
  mkdir "$p/folder.safetensors"; refused "$p/folder.safetensors" 73 --force
  refused /dev/full 73 --force
  refused /dev/null 73 --force
  refused "$p/absent/out.safetensors" 73
  refused "$work/old/out.safetensors" 73
  holds "links are links still" [ -L "$p/link.safetensors" -a -L "$p/dangling.safetensors" -a -p "$p/fifo.safetensors" ]
  cp "$work/old" "$p/exists.safetensors"; refused "$p/exists.safetensors" 73
  holds "an existing output changed" cmp -s "$p/exists.safetensors" "$work/old"
  on_inputs
  standard_output
  # The temporary lies beside the output, so TMPDIR does not matter.
  for name in "$work/no-such-folder" /dev/shm /proc; do
    prepare old
    (cd "$work/cwd" && HOME=$work/home TMPDIR=$name "$T" "${command[@]}" 2>"$work/err"); check $? "TMPDIR=$name"
  done
  needs_root || return
  mkdir -p "$work/closed"; chmod 555 "$work/closed"
  run setpriv --reuid=65534 --regid=65534 --clear-groups "$T" merge "$base" "$in/small/adapter" -o "$work/closed/o.safetensors" -q; status=$?
  case $status in 77) pass ;; 126 | 127) skip "the program is not readable for others" ;; *) fail "closed folder: exit $status" ;; esac
  mkdir -p "$work/immutable"
  if chattr +i "$work/immutable" 2>/dev/null; then
    refused "$work/immutable/o.safetensors" "73 77"; chattr -i "$work/immutable"
    # An old output that may not be replaced.
    cp "$work/old" "$work/immutable/o.safetensors"; chattr +i "$work/immutable/o.safetensors"
    refused "$work/immutable/o.safetensors" "73 77" --force; chattr -i "$work/immutable/o.safetensors"
    holds "leftovers in the folder of an immutable file" [ "$(ls -A "$work/immutable")" = o.safetensors ]
  else skip "no chattr +i here"; fi
  mkdir -p "$work/readonly"
  if mount -t tmpfs tmpfs "$work/readonly" 2>/dev/null; then
    mounts=("$work/readonly")
    cp "$work/old" "$work/readonly/o.safetensors"; mount -o remount,ro "$work/readonly"
    refused "$work/readonly/o.safetensors" 73 --force; refused "$work/readonly/new.safetensors" 73; release
  else skip "cannot mount"; fi
  touch "$p/bound.safetensors"
  if mount --bind "$work/old" "$p/bound.safetensors" 2>/dev/null; then
    mounts=("$p/bound.safetensors"); refused "$p/bound.safetensors" 73 --force; release
  else skip "cannot bind"; fi
  folding
}

# The output is an input, by whatever name.
on_inputs() {
  local base=$in/small/base.safetensors name
  refused "$base" 65 --force
  (cd "$work/cwd" && ln -s "$in/small" here)
  refused "$in/small/../small/./base.safetensors" 65 --force
  refused "$work/cwd/here/base.safetensors" 65 --force
  rm "$work/cwd/here"
  ln "$base" "$work/hard.safetensors"; refused "$work/hard.safetensors" 65 --force; rm "$work/hard.safetensors"
  ln -s "$base" "$work/soft.safetensors"; refused "$work/soft.safetensors" "65 73" --force; rm "$work/soft.safetensors"
  refused "$in/small/adapter/adapter_model.safetensors" 65 --force
  refused "$in/small/adapter/adapter_config.json" "65 73" --force
  refused "$in/small/adapter" 65 --force
  # A model whose shards are links: the folder of the links, the files behind them, their folder.
  for name in model blobs/0 blobs ../../in ..; do
    run "$T" merge "$in/sharded/model" "$in/small/adapter" -o "$in/sharded/$name" -q --force; status=$?
    holds "$name over its input: exit $status" [ $status = 65 -o $status = 73 ]
  done
  run "$T" merge "$in/sharded/model" "$in/small/adapter" -o "$place/m" --undo "$in/sharded/blobs/0" -q --force; status=$?
  holds "a record over an input: exit $status" [ $status = 65 -a ! -e "$place/m" ]
  run "$T" merge "$in/sharded/model" "$in/small/adapter" -o "$place/m" --undo "$place/m" -q --force; status=$?
  holds "a record over its own model: exit $status" [ $status != 0 -a $status -lt 128 -a ! -e "$place/m" ]
  holds "an input changed" [ "$(contents_of_inputs)" = "$CONTENTS" ]
}

# Standard output: whole, closed early, full.
standard_output() {
  local small=$in/small/base.safetensors
  run "$T" convert "$small" -o - --to safetensors -q >"$work/piped"; status=$?
  holds "to standard output: exit $status" eval '[ $status = 0 ] && "$T" compare "$work/piped" "$small" -q >/dev/null'
  run "$T" convert "$small" -o - --to safetensors -q >/dev/full; status=$?
  holds "to /dev/full: exit $status" [ $status = 74 ]
  run "$T" inspect "$small" >/dev/full; status=$?
  holds "a listing to /dev/full: exit $status" [ $status = 74 ]
  run "$T" inspect "$small" >&-; status=$?
  holds "a listing to a closed stream: exit $status" [ $status = 74 ]
  run "$T" convert "$small" -o - --to safetensors -q | head -c 10 >/dev/null; status=${PIPESTATUS[0]}
  holds "a reader that leaves: exit $status" [ $status = 0 -o $status = 74 ]
  holds "leftovers of standard output" [ -z "$(find "$work/home" "$work/tmp" "$work/cwd" -mindepth 1)" ]
}

# Another case is another file, but not where the file system folds cases.
folding() {
  mkdir -p "$work/folded"; truncate -s 16M "$work/image"
  if mkfs.ext4 -q -O casefold "$work/image" 2>/dev/null && mount -o loop "$work/image" "$work/folded" 2>/dev/null; then
    mounts=("$work/folded"); mkdir "$work/folded/f"; chattr +F "$work/folded/f"
    cp "$in/small/base.safetensors" "$work/folded/f/Base.safetensors"
    run "$T" convert "$work/folded/f/Base.safetensors" -o "$work/folded/f/bASE.safetensors" --force -q; status=$?
    holds "an input under another case: exit $status" eval '[ $status = 65 ] && cmp -s "$work/folded/f/Base.safetensors" "$in/small/base.safetensors"'
    release
  else skip "no ext4 that folds cases"; fi
  rm -f "$work/image"
  cp "$in/small/base.safetensors" "$place/a.safetensors"
  run "$T" convert "$place/a.safetensors" -o "$place/A.safetensors" -q; status=$?
  holds "another case is another file: exit $status" [ $status = 0 ]
}
