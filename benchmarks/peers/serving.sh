#!/bin/sh
# Environments for the peers of benchmarks/tabular.py and chat_overhead.py, outside the repository:
#   benchmarks/peers/serving.sh [mlserver] [bentoml] [litellm]
# PEERS   folder (default: ~/.cache/modelyard-peers, or under XDG_CACHE_HOME)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
bin=$(cd "$here/../.." && pwd)/.venv/bin
peers=${PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/modelyard-peers}
test -x "$bin/uv" || { echo "run \`make\` first" >&2; exit 2; }
mkdir -p "$peers"
for peer in ${*:-mlserver bentoml litellm}; do
    test -f "$here/$peer.txt" || { echo "no peer is called $peer" >&2; exit 2; }
    "$bin/uv" venv --quiet --allow-existing "$peers/$peer"
    "$bin/uv" pip install --quiet --python "$peers/$peer/bin/python" -r "$here/$peer.txt"
    echo "$peers/$peer"
done
