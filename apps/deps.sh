#!/bin/sh
# Installs what the project needs and the system lacks: a C++ compiler and four header packages (README.md says why each).
# As root without sudo, otherwise with it; where there is no apt it prints the names of the packages.
set -eu

packages="g++ doctest-dev libstb-dev libcli11-dev nlohmann-json3-dev"

if ! command -v apt-get > /dev/null || ! command -v dpkg-query > /dev/null; then
  found=yes
  command -v "${CXX:-c++}" > /dev/null || command -v g++ > /dev/null || found=no
  for header in doctest/doctest.h stb/stb_image.h CLI/CLI.hpp nlohmann/json.hpp; do
    [ -e "/usr/include/$header" ] || [ -e "/usr/local/include/$header" ] || found=no
  done
  [ $found = yes ] && exit 0
  echo "deps: this system has no apt; the packages are called in Debian: $packages" >&2
  echo "HINT: install a C++20 compiler, doctest, stb, CLI11 and nlohmann-json with your system's own tool" >&2
  exit 0   # the build says what it misses
fi

missing=
for package in $packages; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null || true)
  [ "$status" = installed ] || missing="$missing $package"
done
[ -z "$missing" ] && exit 0

as_root=
if [ "$(id -u)" != 0 ]; then
  if ! command -v sudo > /dev/null; then
    echo "deps: missing packages:$missing" >&2
    echo "HINT: as root, apt-get install$missing" >&2
    exit 1
  fi
  as_root=sudo
fi
echo "deps: installing$missing"
install() {   # $missing is a list
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing
}
install || { $as_root apt-get update && install; }   # a fresh system has no package lists
