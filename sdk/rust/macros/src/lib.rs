//! `#[tidegate::plugin]`: exports the callbacks that a plugin's impl block has. Use it through `tidegate-sdk`.

mod expand;

use proc_macro::TokenStream;

/// Makes a component of an `impl Plugin for …` block: it exports the callbacks that the block has, and only those, and
/// keeps the plugin's one value.
///
/// The type needs `Default` and no generics. A crate has one plugin. In a native build nothing is exported, so unit
/// tests just run.
#[proc_macro_attribute]
pub fn plugin(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand::plugin(arguments.into(), item.into()).into()
}
