#!/usr/bin/env bash
# Pretrain three networks side by side on one GPU, from the bundle's weights, and average them:
#
#   bash docs/pretrain_side_by_side.sh OUT MINUTES [options of brats3d pretrain]
#
# Every minute and at the end, OUT/model.pt becomes the mean of their moving averages, in float16. The end comes about a
# minute after MINUTES. On an H200 use --batch_size 4 --pool 24; a small trial on a CPU takes
#   --size small --patch_size "[32,32,32]" --val_cases 1 --pool 2 --epoch_length 5
set -euo pipefail

out=$1
minutes=$2
shift 2
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python}
runs=$(mktemp -d)
mkdir -p "$out"
export PYTHONPATH=$root

mean() {
  "$python" "$root/benchmarks/mean_weights.py" "$runs"/*/checkpoints/"$1" --output "$out/model.pt"
}

pids=()
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
# seed, learning rate, probability that all sequences are present
for each in "1 0.0004 0.5" "2 0.0007 0.6" "3 0.001 0.5"; do
  read -r seed rate all_present <<<"$each"
  "$python" -m brats3d pretrain --minutes "$minutes" --output "$runs/$seed" --checkpoint "$root/bundle/models/model.pt" \
    --seed "$seed" --learning_rate "$rate" --all_present "$all_present" --checkpoint_minutes 1 --val_interval 1000000 \
    "$@" >"$out/$seed.log" 2>&1 &
  pids+=($!)
done
while sleep 60; do mean last.pt 2>/dev/null || true; done &
saver=$!
wait "${pids[@]}"
kill "$saver"
mean best.pt
