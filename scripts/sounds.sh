#!/usr/bin/env bash
# Fetches recordings without labels, some 15 hours from Debian packages, for `python -m training.distil`.
# Usage: scripts/sounds.sh OUT      (needs Debian or Ubuntu, 6 GB of downloads and 5 GB of room; installs nothing)
# What a package's sounds may be used for is in its copyright file, which is fetched with them.
set -euo pipefail
die() { printf 'sounds: %s\n' "$*" >&2; exit 1; }
[ $# -eq 1 ] || die "usage: scripts/sounds.sh OUT"
command -v apt-get >/dev/null || die "this needs apt-get; any other folder of recordings will do as well"

PACKAGES=(
    # sounds of things, animals, traffic and machines
    tuxpaint-stamps-default ktuberling-data scratch gamine-data bambam gcompris-qt-data sonic-pi-samples
    bucklespring-data sound-icons sound-theme-freedesktop oxygen-sounds lomiri-sounds deepin-sound-theme
    flightgear-data-base torcs-data crrcsim-data searchandrescue-data supertuxkart-data trigger-rally-data
    extremetuxracer-data simutrans-pak64 lincity-ng-data micropolis-data unknown-horizons freecol
    hydrogen-drumkits-effects minetest-data minetest-mod-mobs-redo
    # games, where most of it is effects
    megaglest-data hedgewars-data redeclipse-data wesnoth-1.16-data planetblupi-common freedroidrpg-data warmux-data
    supertux-data triplea scorched3d-data flare-game boswars-data colobot-common-sounds naev-data endless-sky-data
    btanks-data etw-data lugaru-data cube2-data plee-the-bear-data netpanzer-data mirrormagic-data krank
    neverball-common marsshooter-data enigma-data freeorion-data trackballs-data freetennis-common bzflag-data
    heroes-sound-effects freedink-data atanks-data ardentryst widelands-data pingus-data pekka-kana-2-data
    teeworlds-data tumiki-fighters-data xmoto-data ufoai-sound warzone2100-data openclonk-data foobillardplus-data
    # speech
    klettres-data saytime fillets-ng-data
    # music
    wesnoth-1.16-music warzone2100-music ufoai-music asterisk-moh-opsound-wav singularity-music zaz-data asc-music
)

mkdir -p "$1"
cd "$1"
for package in "${PACKAGES[@]}"; do
    [ -d "$package" ] && continue
    if ! apt-get download -qq "$package"; then
        printf 'sounds: %s is not to be had here, going on without it\n' "$package" >&2
        continue
    fi
    mkdir "$package.part"
    dpkg --fsys-tarfile "${package}"_*.deb |
        tar x -C "$package.part" --wildcards --wildcards-match-slash --ignore-case \
            '*.ogg' '*.wav' '*.mp3' '*.flac' '*/copyright' 2>/dev/null || true
    rm "${package}"_*.deb
    mv "$package.part" "$package"
    printf '%s: %d recordings\n' "$package" "$(find "$package" -type f ! -name copyright | wc -l)"
done
