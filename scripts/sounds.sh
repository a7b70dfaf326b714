#!/usr/bin/env bash
# Fetches recordings without labels, some 19 hours from Debian packages, for `python -m training.distil`.
# Usage: scripts/sounds.sh OUT      (needs Debian or Ubuntu, 7.5 GB of downloads, 2.5 GB of room in the end; installs nothing)
# What a package's sounds may be used for is in its copyright file, which is fetched with them.
set -euo pipefail
die() { printf 'sounds: %s\n' "$*" >&2; exit 1; }
[ $# -eq 1 ] || die "usage: scripts/sounds.sh OUT"
command -v apt-get >/dev/null || die "this needs apt-get; any other folder of recordings will do as well"

PACKAGES=(
    # sounds of things, animals, traffic and machines
    tuxpaint-stamps-default ktuberling-data scratch gamine-data bambam sonic-pi-samples
    bucklespring-data sound-icons oxygen-sounds lomiri-sounds deepin-sound-theme
    flightgear-data-base torcs-data crrcsim-data searchandrescue-data supertuxkart-data
    extremetuxracer-data simutrans-pak64 lincity-ng-data micropolis-data unknown-horizons freecol
    hydrogen-drumkits-effects minetest-data minetest-mod-mobs-redo
    # games, where most of it is effects
    megaglest-data hedgewars-data redeclipse-data wesnoth-1.16-data planetblupi-common freedroidrpg-data warmux-data
    supertux-data triplea scorched3d-data flare-game boswars-data colobot-common-sounds naev-data endless-sky-data
    btanks-data etw-data lugaru-data cube2-data plee-the-bear-data netpanzer-data mirrormagic-data krank
    neverball-common marsshooter-data enigma-data freeorion-data trackballs-data freetennis-common bzflag-data
    heroes-sound-effects freedink-data atanks-data ardentryst widelands-data pingus-data pekka-kana-2-data
    tumiki-fighters-data xmoto-data openclonk-data foobillardplus-data
    # speech
    klettres-data fillets-ng-data
    # music
    wesnoth-1.16-music asterisk-moh-opsound-wav singularity-music zaz-data asc-music
)

# Recordings that samples/ has: they are to show what a model makes of sounds that it has not heard.
SAMPLES='.*/(dogs/dog\.ogg|(School1|FireStation1)\.wav|manolo_camp-morning_coffee\.wav)'

mkdir -p "$1"
cd "$1"
for package in "${PACKAGES[@]}"; do
    [ -d "$package" ] && continue
    if ! apt-get -o APT::Sandbox::User=root download -qq "$package"; then
        printf 'sounds: %s is not to be had here, going on without it\n' "$package" >&2
        continue
    fi
    rm -rf "$package.part"  # of a run that was ended
    dpkg-deb --extract "${package}"_*.deb "$package.part"
    rm "${package}"_*.deb
    find "$package.part" -regextype posix-extended -type f ! -iregex '.*\.(ogg|wav|mp3|flac)' ! -name copyright -delete
    find "$package.part" -regextype posix-extended -type f -regex "$SAMPLES" -delete
    mv "$package.part" "$package"
    printf '%s: %d recordings\n' "$package" "$(find "$package" -type f ! -name copyright | wc -l)"
done
