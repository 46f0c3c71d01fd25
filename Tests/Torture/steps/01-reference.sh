# 1. Clean runs: the order of the calls that make an output safe, and that others read what was written.
run_reference() {
  local each form out
  for each in $subjects middle large; do
    subject $each
    for form in old none; do
      prepare $form
      run "$T" "${command[@]}"
      check $? "clean run, $form"
    done
    for out in "${outs[@]}"; do
      case $out in *.undo) continue ;; esac
      [ -e "$out" ] && holds "check $out" "$T" check "$out" -q
    done
  done
  subject undo; prepare none; run "$T" "${command[@]}"
  holds "unmerge gives the base back" eval \
    '"$T" unmerge "$place/merged" "$in/small/adapter" --undo "$place/merge.undo" -o "$place/back" -q && "$T" compare "$place/back" "$in/sharded/model" -q'
  reads_back
  needs_strace || return
  for each in $subjects; do
    subject $each
    prepare old
    traced "-y -e trace=openat,write,pwrite64,copy_file_range,fsync,rename,renameat2"
    check $? "traced"
    for out in "${outs[@]}"; do
      holds "$each: order of calls for $out" python3 "$here/order.py" "$work/trace" "$out"
    done
    printf '%s:' $each
    traced "-c -U name,calls -e trace=openat,write,pwrite64,ftruncate,fallocate,fchmod,fsync,fdatasync,close,rename,renameat2,unlink,mmap,pread64,copy_file_range" &&
      awk 'NR > 2 && $2 ~ /^[0-9]+$/ { printf " %s %s", $2, $1 } END { print "" }' "$work/trace"
  done
  subject large; prepare old
  traced "-e trace=openat"
  grep 'O_DIRECT' "$work/trace" | grep -qv ' = -1' && pass || skip "no writing past the page cache here: the large model takes the common path"
}

# The tensors as the readers of others see them, byte for byte.
reads_back() {
  local python=${PYTHON:-python3}
  "$python" -c 'import numpy, safetensors' 2>/dev/null || { skip "$python has no numpy and safetensors (PYTHON=…)"; return; }
  subject merge; prepare none; run "$T" "${command[@]}"
  run "$T" convert "$place/out.safetensors" -o "$place/out.npz" -q
  holds "safetensors and numpy read the same bytes" "$python" - "$place" <<'PY'
import sys, numpy, safetensors
folder = sys.argv[1]
with open(f"{folder}/out.safetensors", "rb") as file:
    tensors = dict(safetensors.deserialize(file.read()))
arrays = numpy.load(f"{folder}/out.npz")
assert len(tensors) == 8 and set(arrays.files) == set(tensors), arrays.files
for name in arrays.files:
    array, stored = arrays[name], tensors[name]
    assert list(array.shape) == stored["shape"], name
    bits = array.view(numpy.uint32) if array.dtype == numpy.float32 else array
    found = (bits >> 16).astype(numpy.uint16) if bits.dtype == numpy.uint32 else bits
    assert found.tobytes() == bytes(stored["data"]), name
PY
}
