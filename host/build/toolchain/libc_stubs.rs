//! The symbols that Rust's standard library for wasm32-wasip2 names and Debian's wasi-libc, which is older than the
//! target, does not define: sockets and threads. A plugin has neither. Without these functions it would not link; with
//! them, code that tries gets an `io::Error` ("not supported").
//!
//! `#[link(kind = "static")]` puts the original libc.a into the archive that is made of this file, so the result
//! replaces libc.a and no archiver is needed.

#![no_std]
#![feature(thread_local)]
#![crate_type = "staticlib"]

use core::panic::PanicInfo;

/// ENOTSUP of WASI.
const NOT_SUPPORTED: i32 = 58;

/// EAI_FAIL of getaddrinfo.
const LOOKUP_FAILED: i32 = -4;

#[link(name = "c", kind = "static")]
unsafe extern "C" {}

unsafe extern "C" {
    #[thread_local]
    static mut errno: i32;
}

/// Functions that return -1 and set errno.
macro_rules! fail {
    ($($name:ident($($argument:ident),*);)*) => {$(
        #[unsafe(no_mangle)]
        pub extern "C" fn $name($($argument: i32),*) -> i32 {
            let _ = ($($argument,)*);
            // SAFETY: errno is a thread-local of libc, and there is one thread.
            unsafe { errno = NOT_SUPPORTED };
            -1
        }
    )*};
}

/// Functions that return a code.
macro_rules! answer {
    ($code:expr; $($name:ident($($argument:ident),*);)*) => {$(
        #[unsafe(no_mangle)]
        pub extern "C" fn $name($($argument: i32),*) -> i32 {
            let _ = ($($argument,)*);
            $code
        }
    )*};
}

fail! {
    bind(socket, address, length);
    connect(socket, address, length);
    getpeername(socket, address, length);
    getsockname(socket, address, length);
    listen(socket, backlog);
    recvfrom(socket, buffer, size, flags, address, length);
    recvmsg(socket, message, flags);
    sendmsg(socket, message, flags);
    sendto(socket, buffer, size, flags, address, length);
    setsockopt(socket, level, name, value, length);
    socket(domain, kind, protocol);
    socketpair(domain, kind, protocol, pair);
}

answer! { NOT_SUPPORTED;
    pthread_create(thread, attributes, start, argument);
    pthread_detach(thread);
    pthread_join(thread, result);
}

answer! { 0;
    pthread_attr_destroy(attributes);
    pthread_attr_init(attributes);
    pthread_attr_setstacksize(attributes, size);
    pthread_self();
}

answer! { LOOKUP_FAILED;
    getaddrinfo(node, service, hints, result);
}

#[unsafe(no_mangle)]
pub extern "C" fn freeaddrinfo(_list: i32) {}

#[unsafe(no_mangle)]
pub extern "C" fn gai_strerror(_code: i32) -> *const u8 {
    c"not supported".as_ptr().cast()
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
