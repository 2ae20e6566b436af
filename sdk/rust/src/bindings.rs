//! What `wit-bindgen` makes of the contract. WIT has no optional exports, so each callback interface has a world of its
//! own, bound here one by one; `#[tidegate::plugin]` calls the export macros of just those that a plugin implements.

/// The host functions and the shared types.
pub mod imports {
    wit_bindgen::generate!({ world: "imports", path: "../wit" });
}

/// Keys in buckets. What a plugin does not call is no import of its component.
pub mod keyvalue {
    wit_bindgen::generate!({ world: "imports", path: "../wit/deps/wasi-keyvalue.wit", generate_all });
}

macro_rules! callback_world {
    ($module:ident, $world:literal, $export:literal) => {
        pub mod $module {
            wit_bindgen::generate!({
                world: $world,
                path: "../wit",
                pub_export_macro: true,
                export_macro_name: $export,
                with: {
                    "tidegate:plugin/types@0.1.0": crate::bindings::imports::tidegate::plugin::types,
                    "tidegate:plugin/turn@0.1.0": crate::bindings::imports::tidegate::plugin::turn,
                    "tidegate:plugin/gateway@0.1.0": crate::bindings::imports::tidegate::plugin::gateway,
                    "tidegate:plugin/query@0.1.0": crate::bindings::imports::tidegate::plugin::query,
                    "tidegate:plugin/timers@0.1.0": crate::bindings::imports::tidegate::plugin::timers,
                    "tidegate:plugin/log@0.1.0": crate::bindings::imports::tidegate::plugin::log,
                    "tidegate:plugin/settings@0.1.0": crate::bindings::imports::tidegate::plugin::settings,
                },
            });
        }
    };
}

callback_world!(worker_start, "with-worker-start", "export_worker_start");
callback_world!(connect, "with-connect", "export_connect");
callback_world!(websocket_connect, "with-websocket-connect", "export_websocket_connect");
callback_world!(message, "with-message", "export_message");
callback_world!(close, "with-close", "export_close");
callback_world!(timer, "with-timer", "export_timer");
callback_world!(worker_stop, "with-worker-stop", "export_worker_stop");
callback_world!(save, "with-save", "export_save");
callback_world!(restore, "with-restore", "export_restore");
