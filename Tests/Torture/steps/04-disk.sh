# 4. A full disk: in memory and on ext4, with and without an old output, with no inodes, and where space cannot be reserved.
run_disk() {
  needs_root || return
  subject merge
  local size need i
  prepare none; run "$T" "${command[@]}"; size=$(stat -c %s "${outs[0]}")
  need=$((size / 1024))
  local count=17; [ $mode = quick ] && count=8
  for form in none old; do
    for ((i = 0; i <= count; i++)); do
      on_disk tmpfs $((need - 64 * (count - i) / count + 8)) $form || return
    done
    on_disk tmpfs 4 $form
  done
  on_disk tmpfs 8192,nr_inodes=1 none
  on_disk tmpfs 8192,nr_inodes=2 none
  if ! command -v mkfs.ext4 >/dev/null; then skip "no mkfs.ext4"; return; fi
  for i in 900 1000 1100 1200 1300 1400 1600; do
    for form in none old; do on_disk ext4 $i $form || return; done
  done
  needs_strace || return
  # Where space cannot be reserved, the error comes from a write, or from the flush.
  for kind in tmpfs ext4; do
    for i in 600 900 $((need - 40)); do refusing=1 on_disk $kind $i none; done
  done
  large_disk
}

# A merge onto a disk of $1 with $2 KiB free, beside an old output where $3 says so.
on_disk() {
  local disk=$work/disk out status left what="$1 with $2 KiB, $3${refusing:+, no fallocate}"
  mkdir -p "$disk"
  case $1 in
  tmpfs) mount -t tmpfs -o size=${2%%,*}k${2#"${2%%,*}"} tmpfs "$disk" 2>/dev/null || { skip "cannot mount"; return 1; } ;;
  ext4)
    rm -f "$work/image"
    truncate -s 8M "$work/image"
    mkfs.ext4 -q -O ^has_journal -m 0 "$work/image" && mount -o loop "$work/image" "$disk" 2>/dev/null || { skip "cannot mount a loop"; return 1; }
    # Filled but for what is to be free.
    head -c $((($(stat -f -c '%a*%S' "$disk")) - $2 * 1024)) /dev/zero >"$disk/filling"; sync "$disk/filling" ;;
  esac
  mounts=("$disk")
  out=$disk/out.safetensors
  [ $3 = old ] && echo "old contents" >"$out"
  local old; old=$(sum "$out")
  if [ "${refusing:-}" ]; then
    run strace -f -o /dev/null -e trace=fallocate -e inject=fallocate:error=EOPNOTSUPP "$T" merge "$in/small/base.safetensors" "$in/small/adapter" -o "$out" --force -q; status=$?
  else run "$T" merge "$in/small/base.safetensors" "$in/small/adapter" -o "$out" --force -q; status=$?; fi
  left=$(find "$disk" -name '.*.part' | wc -l)
  if [ $status = 0 ]; then holds "$what: exit 0 without the output" [ "$(sum "$out")" = "${new[merge:${outs[0]}]}" ]
  elif [ $status != 74 ] || [ "$left" != 0 ] || [ "$(sum "$out")" != "$old" ]; then fail "$what: exit $status, $left temporaries"
  elif ! grep -q 'expected [0-9]* bytes, found [0-9]* bytes free' "$work/err" && [[ $2 != *inodes* ]]; then fail "$what: the text lacks needed and free bytes"
  else pass; fi
  # The record on the full disk, the model elsewhere: neither, or both.
  if [ $3 = none ] && [ $1 = tmpfs ] && [ -z "${refusing:-}" ]; then
    rm -f "$out"; rm -rf "${place:?}"/*
    run "$T" merge "$in/sharded/model" "$in/small/adapter" -o "$place/merged" --undo "$disk/undo" -q; status=$?
    case $status in
    0) holds "no record on $what" [ -s "$disk/undo" -a -d "$place/merged" ] ;;
    74) holds "half a record on $what" [ ! -e "$disk/undo" -a ! -e "$place/merged" ] ;;
    *) fail "record on $what: exit $status" ;;
    esac
  fi
  release
}

# The large model on an ext4 that has half its size: past the page cache, with and without fallocate.
large_disk() {
  [ $mode = long ] || return
  local disk=$work/disk status
  mkdir -p "$disk"; truncate -s 160M "$work/image"
  mkfs.ext4 -q -m 0 "$work/image" && mount -o loop "$work/image" "$disk" 2>/dev/null || { skip "cannot mount a loop"; return; }
  mounts=("$disk")
  for error in none EOPNOTSUPP; do
    run strace -f -o /dev/null -e trace=fallocate $([ $error = none ] || echo "--inject=fallocate:error=$error") \
      "$T" merge "$in/large/base.safetensors" "$in/large/adapter" -o "$disk/out.safetensors" -q; status=$?
    holds "large, fallocate $error: exit $status" eval '[ $status = 74 ] && [ -z "$(find "$disk" -name "*out*")" ] && grep -q "bytes free" "$work/err"'
  done
  release; rm -f "$work/image"
}
