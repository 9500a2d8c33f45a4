#!/bin/sh
# Start Valkey with a password that no command line shows. Arguments are settings that win over the file's.
set -eu
umask 077
config=$(mktemp)
cat "${VALKEY_CONFIG:-/etc/valkey/valkey.conf}" >"$config"
printf 'requirepass "%s"\n' "${VALKEY_PASSWORD:?}" >>"$config"
exec valkey-server "$config" "$@"
