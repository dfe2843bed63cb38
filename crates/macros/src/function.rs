//! `#[orchestrator]` and `#[activity]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Error, ItemFn, LitStr, Result, Type};

use crate::arguments::Arguments;
use crate::lint;
use crate::signature::{self, Output, argument_types, is_named, single_input};

pub(crate) fn orchestrator(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let mut arguments = Arguments::parse(arguments)?;
    let function: ItemFn = syn::parse2(item)?;
    signature::check(&function.sig, "an orchestrator")?;
    let types = argument_types(&function.sig);
    let inputs = match types.split_first() {
        Some((Type::Reference(context), inputs)) if is_named(&context.elem, "OrchestrationContext") => inputs,
        _ => {
            let text = "the first argument of an orchestrator is `ctx: &OrchestrationContext`";
            return Err(Error::new_spanned(&function.sig.ident, text));
        }
    };
    let input = single_input(inputs, "an orchestrator")?;
    let lint = match arguments.take_flag("unchecked") {
        true => TokenStream::new(),
        false => lint::check(&function.block),
    };
    let call = match &input {
        Some(_) => quote!(__body(__ctx, __input)),
        None => quote!(__body(__ctx)),
    };
    let expanded = definition(arguments, function, "Orchestrator", input, &call)?;
    Ok(quote!(#expanded #lint))
}

pub(crate) fn activity(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let arguments = Arguments::parse(arguments)?;
    let function: ItemFn = syn::parse2(item)?;
    signature::check(&function.sig, "an activity")?;
    let types = argument_types(&function.sig);
    if let Some(Type::Reference(context)) = types.first().filter(|kind| is_named(kind, "ActivityContext")) {
        let text = "an activity takes its context by value: `ctx: ActivityContext`";
        return Err(Error::new_spanned(context, text));
    }
    let (with_context, inputs) = match types.split_first() {
        Some((context, inputs)) if is_named(context, "ActivityContext") => (true, inputs),
        _ => (false, &types[..]),
    };
    let input = single_input(inputs, "an activity")?;
    let call = match (with_context, &input) {
        (true, Some(_)) => quote!(__body(__ctx, __input)),
        (true, None) => quote!(__body(__ctx)),
        (false, Some(_)) => quote!(__body(__input)),
        (false, None) => quote!(__body()),
    };
    definition(arguments, function, "Activity", input, &call)
}

/// The function that returns the definition, around the body.
fn definition(
    mut arguments: Arguments,
    mut function: ItemFn,
    definition: &str,
    input: Option<Type>,
    call: &TokenStream,
) -> Result<TokenStream> {
    let output = Output::of(&function.sig)?;
    let ident = function.sig.ident.clone();
    let name = arguments
        .take_text("name")?
        .unwrap_or_else(|| LitStr::new(&plain(&ident), ident.span()));
    let (methods, values): (Vec<_>, Vec<_>) = arguments.into_calls()?.into_iter().unzip();
    let attributes = signature::split_attributes(&mut function);
    let visibility = std::mem::replace(&mut function.vis, syn::Visibility::Inherited);
    function.sig.ident = format_ident!("__body", span = ident.span());
    let definition = format_ident!("{definition}");
    let value = &output.value;
    let input = input.map_or_else(|| quote!(()), |input| quote!(#input));
    let run = output.convert(quote!(#call.await));
    Ok(quote! {
        #attributes
        #visibility fn #ident() -> ::dalsegno::#definition<#input, #value> {
            #function
            ::dalsegno::#definition::new(#name, |__ctx, __input| {
                ::std::boxed::Box::pin(async move { #run })
            })
            #(.#methods(#values))*
        }
    })
}

/// A name without `r#`.
pub(crate) fn plain(ident: &syn::Ident) -> String {
    let text = ident.to_string();
    text.strip_prefix("r#").map(str::to_owned).unwrap_or(text)
}
