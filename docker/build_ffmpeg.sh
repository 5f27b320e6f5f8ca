#!/usr/bin/env bash
# Builds an ffmpeg that knows the video of DICOM (PS3.5 8.2.5 to 8.2.8) and what browsers play, and nothing else:
# 8 MB in place of the 450 that Debian's package brings along, and of its decoders only those that a stored
# stream needs. It is made from Debian's source, with Debian's patches, for the release that this runs on, and
# is GPL-2.0-or-later, for the sake of libx264. Run as root in the image's build, with the folder to install to.
set -euo pipefail
target=$1
find /etc/apt -name '*.sources' -exec sed -i 's/^Types: deb$/Types: deb deb-src/' {} +
find /etc/apt -name '*.list' -exec sed -i 's/^deb \(.*\)/deb \1\ndeb-src \1/' {} +
apt-get update
apt-get install --yes --no-install-recommends dpkg-dev gcc libc6-dev libx264-dev make nasm pkg-config zlib1g-dev
cd "$(mktemp -d)"
apt-get source ffmpeg x264
cd ffmpeg-*/
./configure --prefix="$target" --disable-everything --disable-autodetect --disable-doc --disable-debug \
  --disable-network --disable-programs --enable-ffmpeg --disable-avdevice --enable-gpl --enable-libx264 --enable-zlib \
  --enable-protocol=file,pipe \
  --enable-demuxer=mpegvideo,mpegps,mpegts,h264,hevc,mov,image2,image2pipe,image_bmp_pipe --enable-muxer=mp4,image2 \
  --enable-decoder=mpeg2video,h264,hevc,bmp,mp2,mp3,aac,ac3,pcm_bluray,pcm_dvd --enable-encoder=libx264,png \
  --enable-parser=mpegvideo,h264,hevc,mpegaudio,aac,ac3,bmp,png \
  --enable-bsf=aac_adtstoasc,extract_extradata,h264_mp4toannexb,hevc_mp4toannexb \
  --enable-filter=select,pad,scale,format,null,copy,fps,setpts,trim,anull,aformat,aresample \
  --extra-cflags="-fstack-protector-strong -D_FORTIFY_SOURCE=2" --extra-ldflags=-static --pkg-config-flags=--static
make --jobs="$(nproc)"
install -D --mode=0755 ffmpeg "$target/bin/ffmpeg"
install -D --mode=0644 debian/copyright "$target/share/doc/ffmpeg/copyright"
install -D --mode=0644 COPYING.GPLv2 "$target/share/doc/ffmpeg/COPYING.GPLv2"
install -D --mode=0644 ../x264-*/debian/copyright "$target/share/doc/ffmpeg/copyright.x264"
