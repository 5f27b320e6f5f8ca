#!/usr/bin/env bash
# Builds the image from the Dockerfile without an engine and without an image registry: a bare Debian made by
# mmdebstrap is the base, buildah runs the steps in a chroot. Run as root:
#   apt-get install buildah mmdebstrap && docker/build_check.sh
# Files that a site's network needs for its package registries are taken along: BUILD_FILES="/etc/pip.conf ..."
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d /var/tmp/cloudfilm-image-XXXXXX)
trap 'rm -rf "$work"' EXIT
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
base=localhost/cloudfilm-base

mmdebstrap --quiet --variant=minbase --include=ca-certificates,python3,python3-venv,usr-is-merged bookworm \
  "$work/base.tar"
container=$(buildah from scratch)
buildah add --quiet "$container" "$work/base.tar" / >/dev/null
buildah commit --quiet --rm "$container" "$base" >/dev/null

volumes=()
for file in ${BUILD_FILES:-}; do volumes+=(--volume "$file:$file:ro"); done
buildah bud --quiet --network host --build-arg "BASE=$base" \
  ${NODE_EXTRA_CA_CERTS:+--build-arg "NODE_EXTRA_CA_CERTS=$NODE_EXTRA_CA_CERTS"} "${volumes[@]}" --tag localhost/cloudfilm -f docker/Dockerfile .

container=$(buildah from localhost/cloudfilm)
user=$(buildah run "$container" -- id -u)
version=$(buildah run "$container" -- cloudfilm --version)
for tool in "ffmpeg -version" "pg_dump --version" "pg_restore --version" "restic version"; do
  # shellcheck disable=SC2086 # a program and its argument
  buildah run "$container" -- $tool >/dev/null
done
buildah rm "$container" >/dev/null
[ "$user" = 10001 ] || { echo "the image runs as user $user"; exit 1; }
echo "image built: $version, runs as user $user, $(buildah images --format '{{.Size}}' localhost/cloudfilm)"
