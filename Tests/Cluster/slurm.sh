#!/usr/bin/env bash
# Runs extract and merge as job arrays of four on a Slurm that lives on this machine for as long as the test: one task is
# killed in the middle and requeued, the parts are gathered, and the bytes compared with those of one process.
#
# Debian's slurm-wlm and munge are installed where they are missing. Daemons, which need root, keys and state are the
# test's own, below one folder, and all of it is gone at the end.
#
# usage: LORA_SURGERY=path/to/lora-surgery Tests/Cluster/slurm.sh
set -euo pipefail

program=$(realpath "${LORA_SURGERY:?the program to test}")
if [ "$(id -u)" != 0 ]; then exec sudo LORA_SURGERY="$program" "$0"; fi
demo=$(cd "$(dirname "$0")/../../fixtures/demo" && pwd)
folder=$(mktemp -d)
# munged insists on folders that only their owner can write.
chmod 755 "$folder"
export SLURM_CONF=$folder/slurm.conf

missing=()
for package in slurm-wlm munge; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

daemons=(slurmd slurmctld munged)

stop() {
  local status=$? name pid
  if [ "$status" != 0 ]; then tail -n 20 "$folder"/*.log "$folder"/job-* 2>/dev/null || true; fi
  [ ! -e "$folder/slurmctld.pid" ] || scancel --full --user=root 2>/dev/null || true
  for name in "${daemons[@]}"; do
    pid=$(cat "$folder/$name.pid" 2>/dev/null) || continue
    kill "$pid" 2>/dev/null || continue
    for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    kill -KILL "$pid" 2>/dev/null || true
  done
  rm -rf "$folder"
  exit "$status"
}
trap stop EXIT
trap 'exit 130' INT TERM HUP

start() {
  local host
  host=$(hostname -s)
  mkdir "$folder/state" "$folder/spool"
  (umask 077 && head -c 64 /dev/urandom >"$folder/munge.key")
  munged --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/munged.seed" --num-threads=2
  cat >"$SLURM_CONF" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
KillWait=1
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
  slurmctld
  slurmd
  for _ in $(seq 60); do
    [ "$(sinfo -h -o %T 2>/dev/null)" != idle ] || return 0
    sleep 0.5
  done
  echo "the cluster did not come up" >&2
  sinfo >&2
  return 1
}

# Submits four tasks of a command that all say the same words. Task 3 is stopped as soon as it runs, so that it is surely
# in the middle when it is killed; the second time it runs through.
submit() {
  local name=$1
  shift
  cat >"$folder/$name.sh" <<JOB
#!/usr/bin/env bash
"$program" $* --part auto &
if [ "\$SLURM_ARRAY_TASK_ID" = 3 ] && [ "\${SLURM_RESTART_COUNT:-0}" = 0 ]; then
  kill -STOP \$!
  touch "$folder/$name.stopped"
fi
wait \$!
JOB
  sbatch --parsable --array=1-4 --requeue --chdir="$folder" --output="$folder/job-$name-%a" "$folder/$name.sh"
}

requeue_third() {
  local name=$1 job=$2
  for _ in $(seq 120); do [ -e "$folder/$name.stopped" ] && break; sleep 0.25; done
  [ -e "$folder/$name.stopped" ]
  scontrol requeue "${job}_3"
  # A requeued task would wait two minutes for its node to recover.
  for _ in $(seq 120); do
    if scontrol show job "${job}_3" | grep -q 'JobState=PENDING Reason=BeginTime'; then
      scontrol update JobId="${job}_3" StartTime=now
      return
    fi
    sleep 0.25
  done
  echo "$name: task 3 does not wait to run again" >&2
  return 1
}

finish() {
  local name=$1 job=$2 task
  for _ in $(seq 240); do
    [ -n "$(squeue -h -j "$job" 2>/dev/null)" ] || break
    sleep 0.5
  done
  for task in 1 2 3 4; do
    scontrol show job "${job}_$task" | grep -q 'JobState=COMPLETED' || {
      echo "$name: task $task did not complete" >&2
      scontrol show job "${job}_$task" >&2
      return 1
    }
  done
  scontrol show job "${job}_3" | grep -q 'Restarts=1' || {
    echo "$name: task 3 was not requeued" >&2
    return 1
  }
}

array() {
  local name=$1 job
  job=$(submit "$@")
  requeue_third "$name" "$job"
  finish "$name" "$job"
}

start
base=$folder/base
"$program" convert "$demo/base" -o "$base" --max-shard-size 100KB --quiet

array extract extract --base "$demo/base" --tuned "$demo/tuned" --rank 8 -o "$folder/extract-parts/" --quiet
"$program" gather "$folder/extract-parts/" -o "$folder/adapter" --quiet
"$program" extract --base "$demo/base" --tuned "$demo/tuned" --rank 8 -o "$folder/adapter-alone" --quiet
diff -r "$folder/adapter" "$folder/adapter-alone"
echo "extract: four tasks, one killed and requeued, gathered: the bytes of one process"

array merge merge "$base" "$folder/adapter" -o "$folder/merge-parts/" --quiet
"$program" gather "$folder/merge-parts/" -o "$folder/merged" --quiet
"$program" merge "$base" "$folder/adapter" -o "$folder/merged-alone" --quiet
diff -r "$folder/merged" "$folder/merged-alone"
echo "merge: four tasks, one killed and requeued, gathered: the bytes of one process"

# A task that runs once more finds its part done.
SLURM_ARRAY_TASK_ID=3 SLURM_ARRAY_TASK_COUNT=4 SLURM_ARRAY_TASK_MIN=1 \
  "$program" merge "$base" "$folder/adapter" -o "$folder/merge-parts/" --part auto | grep -q 'part 3/4 was done before'
echo "a finished task runs again: its part is done"
