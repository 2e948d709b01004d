#!/usr/bin/env bash
# Makes the feeds that demo, tests and benchmarks push, and prints their paths, one a line.
#
#   scripts/clip.sh [720|1080|540|360|megabyte|baseline|interlaced|open|wander|wander-2s|wander-8s|wander-long|dark|flat] …   (720 when none is named)
#
# The pictures are real: ten seconds of sea from the npm package `vide` (MIT), fetched by exact version and checked
# by hash. A feed is FLV, as a broadcaster sends it: H.264 with closed GOPs of 2 s, AAC 48 kHz, a burnt-in frame counter
# and a beep each second (the clip itself is silent).
# Its length is a multiple of 8 s, which holds whole video frames, whole GOPs and whole AAC frames alike: timestamps
# go on without a step under `ffmpeg -stream_loop -1`.
#
# In: feed names. Out: files under $RELEVE_CLIPS, else $XDG_CACHE_HOME/releve/clips; kept for the next time.
set -euo pipefail

package=vide@0.5.1
package_sha256=3e34d9618601bfe6ac8c1e3cc7f414717e3e1a86ba1498e5f18338b0030f0e4a
clip_in_package=package/examples/video/ocean.mp4
clip_sha256=3cd4372108c22d0057c441043adaaeef20d72533132ac5478c7c9a1a0f7b654f
recipe=1 # part of the file names: raise it when a feed is made differently

folder=${RELEVE_CLIPS:-${XDG_CACHE_HOME:-$HOME/.cache}/releve/clips}
mkdir -p "$folder"
exec 9>"$folder/.lock"
flock 9 # two callers at once: the second finds the files of the first
work=$(mktemp -d "$folder/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT

check() { # FILE SHA256
    if ! echo "$2  $1" | sha256sum --check --status; then
        echo "clip.sh: $(basename "$1") is not the file that was published as $package (SHA-256 differs)" >&2
        return 1
    fi
}

fetch() {
    [[ ! -f $folder/ocean.mp4 ]] || return 0
    (cd "$work" && npm pack --silent "$package" >/dev/null)
    check "$work"/*.tgz "$package_sha256"
    tar -xzf "$work"/*.tgz -C "$work" "$clip_in_package" 2>"$work/tar.log"
    check "$work/$clip_in_package" "$clip_sha256"
    mv "$work/$clip_in_package" "$folder/ocean.mp4"
}

encode() { # FEED OUT
    local seconds=32 size=1280x720 rate=2500k
    local -a x264=(-profile:v high -bf 2)
    local after=null gop=60
    case $1 in
    720) ;;
    1080) seconds=16 size=1920x1080 rate=6000k ;;
    540) seconds=16 size=960x540 rate=1000k ;;
    360) seconds=16 size=640x360 rate=250k ;;
    megabyte) seconds=16 rate=4000k ;;
    baseline) seconds=8 size=640x360 rate=600k x264=(-profile:v baseline -bf 0) ;;
    # A window that wanders over the sea, in closed GOPs of 1 s: no two seconds look alike, so a copy has one place.
    wander | wander-2s | wander-8s | wander-long | dark | flat)
        seconds=64 gop=30
        after="crop=w=iw*0.7:h=ih*0.7:x='(iw-ow)*(0.5+0.5*sin(t/4.1))':y='(ih-oh)*(0.5+0.5*cos(t/5.3))',scale=$size:flags=bicubic"
        case $1 in
        wander) seconds=48 ;;
        wander-2s) gop=60 ;;
        wander-long) seconds=176 ;;
        dark) after+=",format=yuv420p,lutyuv=y=16+(val-16)/6:u=128+(val-128)/3:v=128+(val-128)/3" ;;
        flat) after+=",gblur=sigma=40:steps=3" ;;
        esac
        ;;
    # The same film as x264 makes it when it is told nothing but that GOPs may be open: one IDR picture, at the start.
    open)
        seconds=64 size=640x360 rate=800k x264=(-profile:v high -bf 3 -x264-params open-gop=1:b-pyramid=normal)
        after="crop=w=iw*0.7:h=ih*0.7:x='(iw-ow)*(0.5+0.5*sin(t/4.1))':y='(ih-oh)*(0.5+0.5*cos(t/5.3))',scale=$size:flags=bicubic"
        ;;
    interlaced)
        seconds=8 size=640x360 rate=800k after=tinterlace=interleave_top,fieldorder=tff
        x264=(-profile:v high -bf 2 -flags +ildct+ilme)
        ;;
    *)
        echo "clip.sh: '$1' is no feed; there are 720, 1080, 540, 360, megabyte, baseline, interlaced, open, wander, wander-2s, wander-8s, wander-long, dark and flat" >&2
        return 2
        ;;
    esac
    local -a keys=(-g "$gop" -keyint_min "$gop" -sc_threshold 0 -force_key_frames "expr:gte(t,n_forced*$gop/30)")
    # x264's default.
    [[ $1 != open && $1 != wander-8s ]] || keys=(-g 250)
    local frames=$((seconds * 30)) audio_frames=$((seconds * 48000 / 1024))
    [[ $1 != interlaced ]] || frames=$((seconds * 15))
    local counter="drawtext=text='%{frame_num}':fontsize=h/12:fontcolor=white:box=1:boxcolor=black@0.6:boxborderw=12:x=w/24:y=h-h/7"
    # The encoder puts one frame of priming before the sound: one frame of sound less makes the sum come out.
    ffmpeg -nostdin -v error -y -stream_loop -1 -i "$folder/ocean.mp4" \
        -f lavfi -i "sine=frequency=220:beep_factor=4:sample_rate=48000" \
        -filter_complex "[0:v]fps=30,scale=$size:flags=bicubic,$counter,$after,format=yuv420p,trim=end_frame=${frames}[v];
                         [1:a]atrim=end_sample=$(((audio_frames - 1) * 1024)),aformat=channel_layouts=stereo[a]" \
        -map '[v]' -c:v libx264 -preset veryfast "${x264[@]}" -threads 2 \
        "${keys[@]}" \
        -b:v "$rate" -maxrate "$rate" -bufsize "$rate" \
        -map '[a]' -c:a aac -b:a 128k -f flv -flvflags no_duration_filesize "$2"
}

for feed in "${@:-720}"; do
    out=$folder/feed-$feed-r$recipe.flv
    if [[ ! -f $out ]]; then
        fetch
        encode "$feed" "$work/$feed.flv"
        mv "$work/$feed.flv" "$out"
    fi
    echo "$out"
done
