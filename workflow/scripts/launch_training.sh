#!/usr/bin/env bash
# Start one torchrun per node of a SLURM allocation and wait for all of them.
# usage: launch_training.sh NODES CORES_PER_NODE PYTHON ARGUMENTS_OF_TORCHRUN...
#
# The rule asks for `mpi=srun`, so that this script runs once, outside of any job step, and starts the step itself:
# wrapped in the executor's own srun a job of several nodes would run on the first one alone. The allocation's node
# list is visible only inside a step, which is where the rendezvous host is looked up.
set -euo pipefail
nodes=$1 cores=$2
shift 2

# Any free port would do, but all nodes must agree on it before they can talk: the job's number decides. Below 32768,
# where systems take ports for connections of their own; the caller tries again where another job has it.
export GENVIEW_PORT=$((20000 + (${SLURM_JOB_ID:-0} + 3001 * ${GENVIEW_ATTEMPT:-0}) % 12000))

start_node='
head=${GENVIEW_RENDEZVOUS_HOST:-$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)}
exec "$1" -m torch.distributed.run --node-rank "$SLURM_NODEID" \
    --master-addr "$head" --master-port "$GENVIEW_PORT" "${@:2}"
'
srun --nodes "$nodes" --ntasks "$nodes" --ntasks-per-node 1 --cpus-per-task "$cores" \
    --cpu-bind=none --kill-on-bad-exit=1 \
    bash -c "$start_node" node "$@" &
step=$!

# srun forwards SIGTERM to its tasks, and torchrun to its workers, which then save a checkpoint.
trap 'kill -TERM "$step" 2>/dev/null' TERM USR1
status=0
wait "$step" || status=$?
# A trapped signal ends the first wait early; the second one has the step's own status.
while kill -0 "$step" 2>/dev/null; do
    status=0
    wait "$step" || status=$?
done
exit "$status"
