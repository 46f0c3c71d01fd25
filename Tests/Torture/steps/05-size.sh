# 5. A limit on the size of files: no SIGXFSZ, and the last write before the limit is short.
run_size() {
  local each size header limit status
  for each in merge convert undo large; do
    subject $each
    prepare none; run "$T" "${command[@]}"
    size=$(find "${outs[-1]}" -type f -printf '%s\n' | sort -n | tail -1)
    header=8; [ $each = merge ] && header=$(($(od -An -t u8 -N 8 "${outs[0]}") + 8))
    for limit in 0 1 $header $((header + 1)) $((size / 2)) $((size - 1)); do
      prepare old
      # Messages go through a pipe, since the limit holds for files of messages too.
      { (cd "$work/cwd" && HOME=$work/home TMPDIR=$work/tmp prlimit --fsize=$limit "$T" "${command[@]}" 2>&1); echo $? >"$work/status"; } | cat >"$work/err"
      status=$(cat "$work/status")
      holds "$each: prlimit --fsize=$limit: exit $status" [ $status = 74 ]
      holds "$each: prlimit --fsize=$limit does not say why" grep -qi 'file too large' "$work/err"
      check $status "prlimit --fsize=$limit"
    done
  done
  # Without reservation the writes themselves meet the limit.
  needs_strace || return
  for each in merge large; do
    subject $each
    for limit in 1 $header 5000 $((size / 2)); do
      prepare old
      { (cd "$work/cwd" && HOME=$work/home TMPDIR=$work/tmp strace -f -o /dev/null -e trace=fallocate,ftruncate -e inject=fallocate:error=EOPNOTSUPP -e inject=ftruncate:retval=0 \
        prlimit --fsize=$limit "$T" "${command[@]}" 2>&1); echo $? >"$work/status"; } | cat >"$work/err"
      check "$(cat "$work/status")" "prlimit --fsize=$limit, no fallocate"
    done
  done
}
