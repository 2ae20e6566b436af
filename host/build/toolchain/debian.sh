#!/usr/bin/env bash
# Makes a Rust toolchain with the standard library of wasm32-wasip2 out of Debian packages.
#
# Debian 12 has a recent rustc (rustc-web), the sources of its standard library (rust-web-src) and a C library for WASI
# (wasi-libc). Nothing gets installed: the packages are unpacked here, the standard library is compiled once for the
# target with the cargo of the Rust installation in HOST_SYSROOT, and the result is put into its sysroot.
#
# Runs in an empty folder that has this script and libc_stubs.rs; leaves the toolchain in toolchain/.
# Needs: HOST_SYSROOT, TARGET, REVISION; package sources of Debian and a registry of crates. Root is needed only to
# refresh package lists that are missing or stale.
# Lines on standard output that begin with "step: " tell a person what goes on.
set -euo pipefail

say() { echo "step: $*"; }
die() { echo "$*" >&2; exit 1; }

work=$PWD
out=$work/toolchain
unpacked=$work/unpacked/usr

candidate() { apt-cache policy "$1" | awk '/Candidate:/ && $2 != "(none)" { print $2 }'; }

update_lists() {
    say "refreshing Debian's package lists"
    [ "$(id -u)" = 0 ] || die "Debian's package lists are missing or stale; run \`sudo apt-get update\` and build again"
    # Another apt may hold the lists for a moment.
    for _ in 1 2 3 4 5; do apt-get update -qq && return; sleep 3; done
    die "apt-get update failed; its messages are above"
}

# The packages of the compiler, and the libraries that its LLVM needs and this machine does not have.
choose_packages() {
    version=$(candidate rustc-web)
    upstream=${version%%+*} # 1.96.0+dfsg1-1~deb12u2 -> 1.96.0
    local minor=${upstream%.*}
    local llvm
    llvm=$(apt-cache depends "libstd-rust-web-$minor" | awk '/Depends: libllvm/ { print $2; exit }')
    [ -n "$llvm" ] || die "libstd-rust-web-$minor does not depend on an LLVM library; this Debian is not known yet"
    packages=("rustc-web=$version" "libstd-rust-web-$minor=$version" "libstd-rust-web-dev=$version"
        "rust-web-src=$version" "$llvm" wasi-libc)
    local library
    for library in $(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
        --no-replaces --no-enhances "$llvm" | grep '^[a-z0-9][^:]*$'); do
        [ "$library" = "$llvm" ] || is_installed "$library" || packages+=("$library")
    done
}

is_installed() { [ "$(dpkg-query -W -f '${Status}' "$1" 2>/dev/null)" = "install ok installed" ]; }

download() {
    mkdir -p "$work/packages"
    (cd "$work/packages" && apt-get download -qq -o APT::Sandbox::User="$(id -un)" "${packages[@]}")
}

unpack() {
    local package
    for package in "$work"/packages/*.deb; do dpkg -x "$package" "$work/unpacked"; done
    rm -rf "$work/packages"
}

# The compiler in a folder that rustc takes for a sysroot, wherever it is moved to.
assemble() {
    host=$(LD_LIBRARY_PATH=$(library_path) "$unpacked/bin/rustc" -vV | awk '/^host:/ { print $2 }')
    [ -n "$host" ] || die "Debian's rustc does not run on this machine"
    mkdir -p "$out/bin" "$out/libexec" "$out/lib/rustlib/src/rust" "$out/lib/rustlib/$TARGET/lib/self-contained"
    cp "$unpacked/bin/rustc" "$out/libexec/rustc"
    cat >"$out/bin/rustc" <<'WRAPPER'
#!/bin/sh
here=$(dirname "$(dirname "$(readlink -f "$0")")")
LD_LIBRARY_PATH="$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" exec "$here/libexec/rustc" "$@"
WRAPPER
    chmod +x "$out/bin/rustc"
    find "$work/unpacked" -path '*-linux-gnu*' -name 'lib*.so*' -not -path '*/rustlib/*' -exec cp -a {} "$out/lib/" \;
    cp -a "$unpacked/lib/rustlib/$host" "$out/lib/rustlib/"
    # Links to the linkers that Debian would have installed lead nowhere here; rustup's installation has both.
    rm -rf "$out/lib/rustlib/$host/bin"
    ln -s "$HOST_SYSROOT/lib/rustlib/$host/bin" "$out/lib/rustlib/$host/bin"
    [ -e "$out/lib/rustlib/$host/bin/wasm-component-ld" ] || die "$HOST_SYSROOT has no wasm-component-ld for $host"
    mv "$unpacked/src/rustc-$upstream/library" "$out/lib/rustlib/src/rust/library"
    cp "$unpacked"/lib/wasm32-wasi/{libc.a,crt1-command.o,crt1-reactor.o} "$out/lib/rustlib/$TARGET/lib/self-contained/"
}

library_path() { find "$work/unpacked" -type d -path '*/lib/*-linux-gnu' -printf '%p:'; }

# Cargo takes the few crates that std depends on from the registry, as std's own lock file names them: Debian's copy of
# them lacks some. Bitcode lets plugins use link-time optimization.
compile_std() {
    mkdir -p "$work/std/src"
    echo 'pub fn nothing() {}' >"$work/std/src/lib.rs"
    printf '[package]\nname = "nothing"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n' >"$work/std/Cargo.toml"
    (cd "$work/std" && RUSTC="$out/bin/rustc" RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Cembed-bitcode=yes \
        cargo build -q --release -Zbuild-std=std,panic_abort --target "$TARGET" --target-dir "$work/target")
    cp "$work/target/$TARGET/release/deps"/lib*.rlib "$out/lib/rustlib/$TARGET/lib/"
    rm "$out/lib/rustlib/$TARGET/lib"/libnothing*.rlib
    rm -rf "$out/lib/rustlib/src" # 70 MB that only this step needs
}

complete_libc() {
    local libc=$out/lib/rustlib/$TARGET/lib/self-contained/libc.a
    mkdir -p "$work/libc"
    cp "$libc" "$work/libc/libc.a"
    RUSTC_BOOTSTRAP=1 "$out/bin/rustc" --edition 2024 --target "$TARGET" -Copt-level=s -Clto=fat -Cpanic=abort \
        -L "native=$work/libc" "$work/libc_stubs.rs" -o "$libc"
}

# A component with std, a socket and a print in it: everything that a plugin links is there.
try_out() {
    cat >"$work/probe.rs" <<'PROBE'
#[unsafe(no_mangle)]
pub extern "C" fn probe() -> usize {
    println!("{:?}", std::net::TcpStream::connect("127.0.0.1:1").map(|_| ()));
    std::env::args().count()
}
PROBE
    "$out/bin/rustc" --edition 2024 --crate-type cdylib --target "$TARGET" -O "$work/probe.rs" -o "$work/probe.wasm"
    [ -s "$work/probe.wasm" ] || die "the new toolchain made no component"
}

say "asking Debian for a compiler"
[ -n "$(candidate rustc-web)" ] && [ -n "$(candidate wasi-libc)" ] || update_lists
[ -n "$(candidate rustc-web)" ] || die "this Debian has no package rustc-web; Debian 12 with its security updates has it"
choose_packages
say "downloading rustc $upstream, its sources and wasi-libc (about 150 MB)"
download || { update_lists && choose_packages && download; } ||
    die "the packages could not be downloaded; is this machine connected to Debian's package sources?"
say "unpacking"
unpack
assemble
say "compiling the standard library for $TARGET, about two minutes, once"
compile_std
say "completing the C library"
complete_libc
say "trying it out"
try_out
echo "revision $REVISION, rustc-web $version, wasi-libc $(candidate wasi-libc)" >"$out/made-of"
