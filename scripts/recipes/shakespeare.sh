#!/bin/sh
# Trains tinylm-shakespeare: scripts/recipes/shakespeare.sh TEXT FOLDER [KEY=VALUE ...], TEXT being the 1.1 MB of "tinyshakespeare". The last tenth
# of the text is held out. Begun again, it goes on.
set -eu
text=$1 folder=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
tinylm=$(cd "$here/../.." && pwd)/tinylm
mkdir -p "$folder"
[ -f "$folder/vocab.gguf" ] || "$tinylm" tokenizer train --type char -o "$folder/vocab.gguf" "$text"
[ -f "$folder/tokens.gguf" ] || "$tinylm" data tokenize -m "$folder/vocab.gguf" --split-val 0.1 -o "$folder/tokens.gguf" "$text"
cd "$folder"
exec "$tinylm" train "$here/shakespeare.ini" checkpoint.dir=run "$@"
