#!/bin/sh
# Trains tinylm-stories: scripts/recipes/stories.sh FOLDER [KEY=VALUE ...]. The corpus is written by `tinylm data generate stories`; a tenth of the
# combinations of hero, wish and obstacle is never trained on and measures what was learned. Begun again, it goes on.
set -eu
folder=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
tinylm=$(cd "$here/../.." && pwd)/tinylm
mkdir -p "$folder"
cd "$folder"
[ -f stories.jsonl ] || "$tinylm" data generate stories -n 50000 -s 1 -o stories.jsonl
[ -f held-out.jsonl ] || "$tinylm" data generate stories -n 2000 -s 2 --talks 0 --held-out -o held-out.jsonl
[ -f vocab.gguf ] || "$tinylm" tokenizer train --vocab-size 2048 --special '<|endoftext|>' --special '<|user|>' \
    --special '<|assistant|>' --special '<|system|>' --special '<|end|>' --eos '<|endoftext|>' \
    --chat-template "$here/stories.jinja" -o vocab.gguf stories.jsonl
[ -f tokens.gguf ] || "$tinylm" data tokenize -m vocab.gguf -o tokens.gguf stories.jsonl
[ -f held-out.gguf ] || "$tinylm" data tokenize -m vocab.gguf -o held-out.gguf held-out.jsonl
exec "$tinylm" train "$here/stories.ini" checkpoint.dir=run "$@"
