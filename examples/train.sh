#!/usr/bin/env bash
# Train on a folder of pictures and draw with the adapter, with nothing but curl (7.68 or newer).
#
#   ATELIER_URL=http://127.0.0.1:8000 ATELIER_API_KEY=atl_… examples/train.sh examples/blip blip
set -euo pipefail
folder=$1 trigger=$2

call() { curl -sSf -H "Authorization: Bearer $ATELIER_API_KEY" "${@:2}" "$ATELIER_URL$1"; }
post() { call "$1" -H 'Content-Type: application/json' -d "$2"; }
field() { grep -o "\"$1\":\"[^\"]*\"" | head -n 1 | cut -d '"' -f 4; }

dataset=$(tar -cz -C "$folder" . | call /datasets -F 'files=@-;filename=pictures.tar.gz' | field id)
while status=$(call "/datasets/$dataset" | field status); [ "$status" = validating ]; do sleep 1; done
echo "dataset $dataset is $status"
[ "$status" = ready ] # GET /datasets/{id} says why one is rejected

job=$(post /jobs '{"model": "tiny", "dataset": "'"$dataset"'", "trigger": "'"$trigger"'"}' | field id)
call "/jobs/$job/events" -N -H 'Accept: text/event-stream' | grep '^event' # until the job ends
call "/jobs/$job/adapter" -o "$trigger.safetensors"

adapter=$(call "/jobs/$job" | field adapter_id)
generation=$(post /generations '{"model": "tiny", "prompts": ["a large '"$trigger"' on blue"],
  "adapters": [{"id": "'"$adapter"'", "weight": 0.9}]}' | field id)
while status=$(call "/generations/$generation?wait=30" | field status); [[ $status =~ ^(queued|running)$ ]]; do :; done
call "/generations/$generation/images/0.png" -o "$trigger.png"
echo "$trigger.safetensors and $trigger.png are here"
