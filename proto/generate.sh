#!/bin/sh
# generate.sh PROTOC_C PROTO_PATH OUT_DIR INPUT HEADER: C code of a .proto file. Its initialisers cast const away where they are used, which
# the house's warnings forbid; a cast by way of an integer says that it is meant.
set -eu
"$1" --proto_path="$2" --c_out="$3" "$4"
sed 's/(char \*)protobuf_c_empty_string/(char *)(uintptr_t)protobuf_c_empty_string/g' "$5" >"$5.tmp"
mv "$5.tmp" "$5"
