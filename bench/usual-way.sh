#!/bin/sh
# The images of a bzImage as one gets them without this project: look for the signature of each compression, decompress
# what follows to a file, and cut out what starts as an ELF file on a page of it.
# usage: usual-way.sh KERNEL FOLDER
set -u
kernel=$1 folder=$2
mkdir -p "$folder"

try() {
  for place in $(LC_ALL=C grep -abo -P "$1" "$kernel" | cut -d: -f1); do
    tail -c +"$((place + 1))" "$kernel" | $2 >"$folder/vmlinux" 2>/dev/null
    if [ "$(head -c 4 "$folder/vmlinux" | tail -c 3)" = ELF ]; then return 0; fi
  done
  return 1
}

try '\x1f\x8b\x08' 'gzip -dc' ||
  try '\xfd7zXZ\x00' 'xz -dc --single-stream' ||
  try 'BZh[1-9]1AY' 'bzip2 -dc' ||
  try '\x02!L\x18' 'lz4 -dc' ||
  try '\x28\xb5\x2f\xfd' 'zstd -dc' || exit 1

for place in $(LC_ALL=C grep -abo -P '\x7fELF[\x01\x02]\x01\x01\x00{9}\x03\x00' "$folder/vmlinux" | cut -d: -f1); do
  if [ $((place % 4096)) -eq 0 ]; then
    dd if="$folder/vmlinux" of="$folder/image-$place" bs=4096 skip=$((place / 4096)) count=2 2>/dev/null
  fi
done
rm -f "$folder/vmlinux"
