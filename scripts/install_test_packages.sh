#!/bin/sh
# What some tests need beyond Python: a browser for the dashboard, the font that the learning tests draw from.
# Installs them where it may (root, apt-get); else says loudly which tests will be skipped.
set -u

PACKAGES="chromium chromium-driver fonts-noto-color-emoji"

has_font() {
    for file in /usr/share/fonts/*/NotoColorEmoji.ttf /usr/share/fonts/*/*/NotoColorEmoji.ttf; do
        [ -e "$file" ] && return 0
    done
    return 1
}

list_missing() {
    command -v chromium >/dev/null || echo chromium
    command -v chromedriver >/dev/null || echo chromium-driver
    has_font || echo fonts-noto-color-emoji
}

if [ -n "$(list_missing)" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing with apt-get: $(list_missing | tr '\n' ' ')"
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2046
    apt-get install -qq -y --no-install-recommends $(list_missing) >/dev/null 2>&1 ||
        { apt-get update -qq && apt-get install -qq -y --no-install-recommends $(list_missing) >/dev/null; }
fi

missing=$(list_missing)
if [ -n "$missing" ]; then
    cat >&2 <<MESSAGE
**************************************************************************************************
  NOT INSTALLED: $(echo "$missing" | tr '\n' ' ')
  The tests that need them (the dashboard in a browser; learning from held-out glyphs) are SKIPPED.
  As root on Debian or Ubuntu: apt-get install $PACKAGES
**************************************************************************************************
MESSAGE
fi
