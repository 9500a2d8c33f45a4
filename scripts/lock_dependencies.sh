#!/usr/bin/env bash
# Writes requirements/: every package that an installation takes, by version and hash, for each platform that pip
# knows. Run it after the dependencies in pyproject.toml have changed; with --upgrade it takes the newest of all.
# Needs the package registry, and uv (pip install uv).
set -euo pipefail
cd "$(dirname "$0")/.."

FLAGS=(--universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet --no-config "$@")

lock() {
    uv pip compile pyproject.toml "${FLAGS[@]}" "${@:2}" --output-file "requirements/$1.txt"
}

# Which build of torch is right depends on the machine, and so does what comes with it: these are left to pip where no
# image settles it.
without_torch() {
    local builds
    builds=$(grep --only-matching --extended-regexp '^(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==' requirements/gpu.txt)
    sed --expression 's/==$//' --expression 's/^/--no-emit-package=/' <<<"$builds"
}

lock gpu --extra train --extra cuda
mapfile -t NO_TORCH < <(without_torch)
EXTRAS=(--extra train --extra embedded)
SAME=(--constraints requirements/gpu.txt)
lock local "${EXTRAS[@]}" "${SAME[@]}" "${NO_TORCH[@]}"
lock tests "${EXTRAS[@]}" --extra test --extra check "${SAME[@]}" --constraints requirements/local.txt "${NO_TORCH[@]}"
lock api "${SAME[@]}"
