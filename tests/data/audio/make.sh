#!/bin/sh
# Makes the audio files of this folder again. Needs ffmpeg (made with 5.1.9 of Debian 12).
set -eu
cd "$(dirname "$0")"

# 1 s: a 1 kHz tone at -6 dB from 0.25 s to 0.75 s, silence around it.
tone="0.5*sin(2*PI*1000*t)*between(t\,0.25\,0.75)"

make() { # rate, arguments for ffmpeg, file
    rate=$1
    shift
    ffmpeg -v error -y -bitexact -f lavfi -i "aevalsrc=$tone:s=$rate:d=1" -flags +bitexact -fflags +bitexact -map_metadata -1 "$@"
}

make 44100 -c:a libmp3lame -b:a 48k tone.mp3
make 44100 -c:a libvorbis -q:a 0 tone.ogg
make 48000 -c:a libopus -b:a 24k tone.opus
# The sample of the tone model.
ffmpeg -v error -y -bitexact -i ../tone/sample.wav -flags +bitexact -fflags +bitexact -map_metadata -1 -c:a libopus -b:a 32k sample.opus
make 22050 -c:a flac tone.flac
make 44100 -c:a aac -b:a 32k tone.m4a
make 44100 -c:a aac -b:a 32k tone.aac
make 16000 -c:a alac alac.m4a
make 48000 -c:a libopus -b:a 24k tone.webm
make 22050 -c:a flac tone.mkv
make 8000 -c:a pcm_s16be tone.aiff
make 8000 -c:a pcm_mulaw tone.caf
make 8000 -c:a pcm_alaw alaw.wav
make 8000 -c:a pcm_mulaw mulaw.wav
make 8000 -c:a adpcm_ms adpcm-ms.wav
make 8000 -c:a adpcm_ima_wav adpcm-ima.wav

# What cannot be heard: a codec without a decoder, and pictures without sound.
make 48000 -t 0.3 -c:a ac3 -b:a 64k ac3.mkv
ffmpeg -v error -y -bitexact -f lavfi -i color=s=16x16:r=5:d=0.4 -flags +bitexact -fflags +bitexact -c:v mpeg4 no-sound.mkv
# The first track has no decoder, the second has one.
ffmpeg -v error -y -bitexact -i ac3.mkv -i tone.mkv -map 0:a -map 1:a -fflags +bitexact -c copy two-tracks.mkv
