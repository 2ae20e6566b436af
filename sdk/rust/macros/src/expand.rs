use proc_macro2::TokenStream;
use quote::quote;
use syn::spanned::Spanned;
use syn::{Attribute, Error, Ident, ImplItem, ImplItemFn, ItemImpl, Result, parse_quote};

/// A callback: its method, its constant in `Callbacks`, its module in the bindings and that module's export macro.
const CALLBACKS: [(&str, &str, &str, &str); 9] = [
    ("on_worker_start", "WORKER_START", "worker_start", "export_worker_start"),
    ("on_connect", "CONNECT", "connect", "export_connect"),
    ("on_websocket_connect", "WEBSOCKET_CONNECT", "websocket_connect", "export_websocket_connect"),
    ("on_message", "MESSAGE", "message", "export_message"),
    ("on_close", "CLOSE", "close", "export_close"),
    ("on_timer", "TIMER", "timer", "export_timer"),
    ("on_worker_stop", "WORKER_STOP", "worker_stop", "export_worker_stop"),
    ("save", "SAVE", "save", "export_save"),
    ("restore", "RESTORE", "restore", "export_restore"),
];

pub(crate) fn plugin(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut block: ItemImpl = match syn::parse2(item.clone()) {
        Ok(block) => block,
        Err(_) => {
            let error =
                Error::new(item.span(), "#[plugin] belongs on the block `impl Plugin for YourType { … }`");
            return with_item(&error, &item);
        }
    };
    if let Err(error) = check(&arguments, &block) {
        // What the block has is still compiled, so that its own mistakes show as well; what it lacks is made up, so
        // that this one mistake is not reported twice.
        if !has(&block, "on_message") {
            block.items.push(parse_quote! {
                fn on_message(&mut self, _: ::tidegate::Client, _: ::tidegate::Message) -> ::tidegate::Result {
                    ::core::result::Result::Ok(())
                }
            });
        }
        return with_item(&error, &quote!(#block));
    }
    expand(block)
}

fn check(arguments: &TokenStream, block: &ItemImpl) -> Result<()> {
    let fail = |span, message: &str| Err(Error::new(span, message));
    if !arguments.is_empty() {
        return fail(arguments.span(), "#[plugin] takes no arguments");
    }
    let Some((_, path, _)) = &block.trait_ else {
        return fail(
            block.self_ty.span(),
            "write `impl Plugin for YourType`: #[plugin] belongs on the trait's block",
        );
    };
    if path.segments.last().is_none_or(|name| name.ident != "Plugin") {
        return fail(path.span(), "#[plugin] belongs on the block `impl Plugin for YourType { … }`");
    }
    if !block.generics.params.is_empty() {
        return fail(
            block.generics.span(),
            "a plugin's type has no generics: the component holds one value of it",
        );
    }
    if let Some(made) = block.items.iter().find(|item| matches!(item, ImplItem::Macro(_))) {
        return fail(made.span(), "write the callbacks out: #[plugin] can't see those that a macro makes");
    }
    if !has(block, "on_message") {
        return fail(
            block.self_ty.span(),
            "a plugin must have on_message, the other callbacks are optional; add\n    \
             fn on_message(&mut self, client: Client, message: Message) -> Result { Ok(()) }",
        );
    }
    check_state(block)
}

/// State that is saved and never restored, or the other way round, would be lost at the first swap.
fn check_state(block: &ItemImpl) -> Result<()> {
    let (method, message) = match (method_of(block, "save"), method_of(block, "restore")) {
        (Some(save), None) => (
            save,
            "a plugin that has save must have restore as well, which the next version's instance gets the state by; \
             add\n    fn restore(&mut self, saved: Saved) -> Result { *self = saved.into_state()?; Ok(()) }",
        ),
        (None, Some(restore)) => (
            restore,
            "a plugin that has restore must have save as well, which makes the state that restore gets; add\n    \
             fn save(&self) -> Result<Saved> { Saved::of(self) }",
        ),
        _ => return Ok(()),
    };
    Err(Error::new(method.sig.ident.span(), message))
}

fn expand(mut block: ItemImpl) -> TokenStream {
    let plugin = &block.self_ty;
    let private = quote!(::tidegate::__private);
    let mut bits = Vec::new();
    let mut exports = Vec::new();
    for (method, bit, module, export) in CALLBACKS {
        let Some(method) = method_of(&block, method) else { continue };
        let conditions: Vec<&Attribute> =
            method.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg")).collect();
        let span = method.sig.ident.span();
        let [bit, module, export] = [bit, module, export].map(|name| Ident::new(name, span));
        bits.push(quote! { #(#conditions)* { bits |= #private::Callbacks::#bit; } });
        exports.push(quote! {
            #(#conditions)*
            #private::bindings::#module::#export!(Exports with_types_in #private::bindings::#module);
        });
    }
    let glue = quote! {
        #[cfg(target_family = "wasm")]
        const _: () = {
            ::std::thread_local! {
                static PLUGIN: ::std::cell::RefCell<#plugin> = ::std::cell::RefCell::default();
            }

            impl #private::Instance for #plugin {
                fn with<R>(f: impl ::core::ops::FnOnce(&mut Self) -> R) -> R {
                    PLUGIN.with_borrow_mut(f)
                }
            }

            type Exports = #private::Exported<#plugin>;

            #(#exports)*
        };

        // A native build has no exports that use the type: without this a private one would be dead code.
        #[cfg(not(target_family = "wasm"))]
        const _: fn() -> #plugin = <#plugin as ::core::default::Default>::default;
    };
    block.items.insert(
        0,
        parse_quote! {
            #[doc(hidden)]
            const CALLBACKS: #private::Callbacks = #private::Callbacks({ let mut bits = 0; #(#bits)* bits });
        },
    );
    quote! { #block #glue }
}

fn method_of<'a>(block: &'a ItemImpl, name: &str) -> Option<&'a ImplItemFn> {
    block.items.iter().find_map(|item| match item {
        ImplItem::Fn(method) if method.sig.ident == name => Some(method),
        _ => None,
    })
}

fn has(block: &ItemImpl, name: &str) -> bool {
    method_of(block, name).is_some()
}

fn with_item(error: &Error, item: &TokenStream) -> TokenStream {
    let error = error.to_compile_error();
    quote! { #item #error }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(item: TokenStream) -> String {
        plugin(TokenStream::new(), item).to_string()
    }

    #[test]
    fn only_the_callbacks_that_the_block_has_are_exported() {
        let code = expanded(quote! {
            impl Plugin for Chat {
                fn on_message(&mut self, client: Client, message: Message) -> Result { Ok(()) }
                #[cfg(feature = "loud")]
                fn on_close(&mut self, client: Client, gone: CloseInfo) -> Result { Ok(()) }
            }
        });
        assert!(code.contains("export_message !"), "{code}");
        assert!(code.contains("export_close !"), "{code}");
        assert!(!code.contains("export_connect"), "{code}");
        assert_eq!(code.matches("cfg (feature = \"loud\")").count(), 3, "{code}");
    }

    #[test]
    fn what_cannot_be_a_plugin_says_why() {
        let says = |item, part: &str| {
            let code = expanded(item);
            assert!(code.contains("compile_error") && code.contains(part), "{code}");
        };
        says(
            quote! { impl Plugin for Chat { fn on_connect(&mut self, client: Client) -> Result { Ok(()) } } },
            "must have on_message",
        );
        says(quote! { impl Chat { fn on_message(&mut self) {} } }, "write `impl Plugin for YourType`");
        says(quote! { impl Other for Chat {} }, "belongs on the block");
        says(quote! { struct Chat; }, "belongs on the block");
        says(quote! { impl<T> Plugin for Chat<T> {} }, "no generics");
        says(quote! { impl Plugin for Chat { callbacks!(); } }, "write the callbacks out");
        let on_message =
            quote! { fn on_message(&mut self, client: Client, message: Message) -> Result { Ok(()) } };
        let save = quote! { fn save(&self) -> Result<Saved> { Saved::of(self) } };
        let restore = quote! { fn restore(&mut self, saved: Saved) -> Result { Ok(()) } };
        says(quote! { impl Plugin for Chat { #on_message #save } }, "must have restore as well");
        says(quote! { impl Plugin for Chat { #on_message #restore } }, "must have save as well");
        let both = expanded(quote! { impl Plugin for Chat { #on_message #save #restore } });
        assert!(both.contains("export_save !") && both.contains("export_restore !"), "{both}");
        let code = plugin(quote!(x), quote! { impl Plugin for Chat {} }).to_string();
        assert!(code.contains("takes no arguments"), "{code}");
    }
}
