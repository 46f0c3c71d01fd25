# 3. Every call fails once, and from some point on for ever, with every error that it knows.
run_errors() {
  needs_strace || return
  local call error
  for call in openat write pwrite64 copy_file_range ftruncate fallocate fchmod fsync fdatasync close rename renameat2 unlink pread64 fstat newfstatat mkdir; do
    for error in EIO ENOSPC EDQUOT EINTR EACCES EMFILE ENOMEM; do
      case $error:$call in EINTR:rename* | EINTR:unlink | EINTR:mkdir | EINTR:*stat*) continue ;; esac
      subject merge
      case $mode:$error in quick:EIO | quick:EINTR | long:*) fails $call $error $nth ;; *) fails $call $error 1 ;; esac
    done
  done
  for call in rename renameat2; do
    for error in EXDEV EBUSY EROFS EEXIST; do
      for each in merge pipeline; do subject $each; fails $call $error 3; done
    done
  done
  for each in ${subjects/merge /} large; do
    subject $each
    local most=$nth
    [ $mode = quick ] && { most=2; case $each in unmerge | gguf) continue ;; esac; }
    for call in openat pwrite64 copy_file_range fallocate fchmod fsync close rename renameat2 unlink pread64 mkdir; do
      fails $call EIO $most
      [ $each = large ] && case $call in pwrite64) fails $call EINVAL $most; fails $call EINTR $most ;; openat) fails $call EINVAL $most ;; esac
    done
  done
  cleaning
  flushing
  exchanging
}

# $1 call, $2 error, $3 how many places.
fails() {
  local n when status left
  for ((n = 1; n <= $3; n++)); do
    for when in $n $n+; do
      [ "$2" = EINTR ] && [ $when = $n+ ] && continue
      [ $mode = quick ] && [ $when = $n+ ] && [ $n -gt 3 ] && continue
      prepare old
      traced "-y -e trace=openat,$1 -e inject=$1:error=$2:when=$when"; status=$?
      grep -q INJECTED "$work/trace" || return
      # The loader and Swift's runtime met it: the program had not opened its first input.
      if awk -v input="$in/" '/INJECTED/ { exit !seen } index($0, input) { seen = 1 }' "$work/trace"; then :
      elif [ $status = 0 ] || grep -q '^lora-surgery: error: ' "$work/err"; then :
      else continue; fi
      # Swift's runtime reads the words of the command line, and does not try twice.
      if [ "$2" = EINTR ] && [ $status != 0 ] && ! grep -q 'io.arguments' "$work/err"; then fail "$subject: EINTR is not retried: inject=$1:error=EINTR:when=$when"; continue; fi
      # What unlink leaves, nobody can take away; nor a replaced folder that cannot be listed.
      case $1:$status in unlink:*) left=3 ;; openat:0) left=1 ;; *) left=0 ;; esac
      [ "$1" = openat ] && grep -q 'not confirmed' "$work/err" && left=1
      check $status "strace -f -e inject=$1:error=$2:when=$when" $left
    done
  done
}

# A failure while cleaning up does not hide the first one. strace counts calls by thread, so that only the first is sure to come.
cleaning() {
  subject merge
  for error in EACCES EIO; do
    prepare old
    traced "-e trace=pwrite64,copy_file_range,unlink -e inject=pwrite64,copy_file_range:error=ENOSPC:when=1+ -e inject=unlink:error=$error"
    check $? "ENOSPC in write, $error in unlink" 1
    prepare old
    traced "-e trace=pwrite64,copy_file_range,unlink -e inject=pwrite64,copy_file_range:error=ENOSPC:when=1+ -e inject=unlink:error=$error"
    holds "the first error is the one reported" grep -q 'output.no-space' "$work/err"
  done
}

# A file is never flushed again after a failure: the kernel has dropped its pages by then.
flushing() {
  local each n status
  for each in merge undo pipeline convert large; do
    subject $each
    for ((n = 1; n <= 12; n++)); do
      prepare old
      traced "-y -e trace=fsync -e inject=fsync:error=EIO:when=$n"; status=$?
      grep -q INJECTED "$work/trace" || break
      holds "$each: exit $status, not 74, where flush $n failed" [ $status = 74 ]
      holds "$each: flushed twice after a failure of flush $n" [ -z "$(grep -o 'fsync([0-9]*<[^>]*>' "$work/trace" | sed 's/.*</</' | sort | uniq -d | grep .part)" ]
    done
    # The last one is that of the folder, after the rename.
    holds "$each: an unconfirmed output is not said to be one" [ $n -gt 2 ]
    prepare old
    traced "-e trace=fsync -e inject=fsync:error=EIO:when=$((n - 1))"
    holds "$each: written, not confirmed" eval 'grep -q "not confirmed on disk" "$work/err" && [ "$(sum "${outs[-1]}")" = "${new[$each:${outs[-1]}]}" ]'
  done
}

# Where the file system cannot exchange two folders, each of the three renames may fail, and the old output comes back.
exchanging() {
  subject pipeline
  local n status
  for n in 0 1 2 3; do
    prepare old
    traced "-e trace=rename,renameat2 -e inject=renameat2:error=EINVAL $([ $n = 0 ] || echo "--inject=rename:error=EIO:when=$n")"; status=$?
    check $status "renameat2 EINVAL, rename $n EIO"
  done
}
