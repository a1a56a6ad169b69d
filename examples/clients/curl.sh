#!/bin/sh
# Ray with curl: a whole answer, a stream, JSON, the OpenAI protocol, readiness.
#
#   RAY_URL=http://127.0.0.1:3000 RAY_API_KEY=... sh examples/clients/curl.sh
set -eu

url=${RAY_URL:-http://127.0.0.1:3000}

ray() {
    path=$1
    shift
    # The key is read from a pipe, not given as an argument: arguments are seen by everyone on the machine.
    if [ -n "${RAY_API_KEY:-}" ]; then
        printf 'header = "authorization: Bearer %s"\n' "$RAY_API_KEY" | curl -sS --config - "$url$path" "$@"
    else
        curl -sS "$url$path" "$@"
    fi
}

json='content-type: application/json'

echo '--- ready?'
ray /readyz

echo '--- a whole answer'
ray /v1/infer -H "$json" -d '{"input": "Name three uses of a small language model.", "maxTokens": 60, "seed": 1}'

echo '--- token by token'
ray /v1/infer -N -H "$json" -d '{"input": "Count from one to ten.", "maxTokens": 40, "stream": true}'

echo '--- a JSON object'
ray /v1/infer -H "$json" -d '{
  "system": "Answer with a JSON object that has the keys intent and urgent.",
  "input": "Please send me the pricing before Friday.",
  "responseFormat": {"type": "json_object"},
  "maxTokens": 60
}'

echo '--- as the OpenAI protocol has it, token by token'
ray /v1/chat/completions -N -H "$json" -d '{
  "messages": [{"role": "user", "content": "Name three colours."}], "max_tokens": 40, "stream": true
}'

echo '--- an error tells what to do: the status, the code, and retry-after where waiting helps'
ray /v1/infer -i -H "$json" -d '{"input": "   "}'
