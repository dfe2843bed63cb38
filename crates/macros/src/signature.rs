//! What a function takes and gives, as far as the attributes must know.
//!
//! Types are known by the last segment of their path: aliases of the contexts and of `Result` are not seen.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{
    Error, FnArg, GenericArgument, ItemFn, PathArguments, PathSegment, Result, ReturnType, Signature, Type,
};

/// Refuses what no durable function can be.
pub(crate) fn check(signature: &Signature, what: &str) -> Result<()> {
    if signature.asyncness.is_none() {
        let text = format!("{what} is an `async fn`");
        return Err(Error::new_spanned(signature.fn_token, text));
    }
    if !signature.generics.params.is_empty() {
        let text = format!("{what} has no type parameters: history keeps its name, not its types");
        return Err(Error::new_spanned(&signature.generics, text));
    }
    Ok(())
}

/// The last segment of a type's path, behind a reference if there is one.
pub(crate) fn last_segment(kind: &Type) -> Option<&PathSegment> {
    match kind {
        Type::Path(path) => path.path.segments.last(),
        Type::Reference(reference) => last_segment(&reference.elem),
        Type::Group(group) => last_segment(&group.elem),
        Type::Paren(paren) => last_segment(&paren.elem),
        _ => None,
    }
}

/// Is it a type of this name, or a reference to one?
pub(crate) fn is_named(kind: &Type, name: &str) -> bool {
    last_segment(kind).is_some_and(|segment| segment.ident == name)
}

/// The types of the arguments, without a receiver.
pub(crate) fn argument_types(signature: &Signature) -> Vec<&Type> {
    let types = signature.inputs.iter().filter_map(|argument| match argument {
        FnArg::Typed(typed) => Some(&*typed.ty),
        FnArg::Receiver(_) => None,
    });
    types.collect()
}

/// The one input behind the context, or `()`.
pub(crate) fn single_input(inputs: &[&Type], what: &str) -> Result<Option<Type>> {
    match inputs {
        [] => Ok(None),
        [Type::Reference(reference)] => {
            let text = format!("{what} takes its input by value: it is read from history");
            Err(Error::new_spanned(reference, text))
        }
        [input] => Ok(Some((*input).clone())),
        [_, second, ..] => {
            let text = format!("{what} takes one input: use a tuple or a struct");
            Err(Error::new_spanned(second, text))
        }
    }
}

/// What a function gives: a value, or a `Result` with a value.
pub(crate) struct Output {
    pub(crate) value: TokenStream,
    pub(crate) is_result: bool,
}

impl Output {
    pub(crate) fn of(signature: &Signature) -> Result<Self> {
        let kind = match &signature.output {
            ReturnType::Default => {
                return Ok(Self {
                    value: quote!(()),
                    is_result: false,
                });
            }
            ReturnType::Type(_, kind) => kind,
        };
        match last_segment(kind) {
            Some(segment) if segment.ident == "Result" => Ok(Self {
                value: value_of(segment)?,
                is_result: true,
            }),
            _ => Ok(Self {
                value: quote!(#kind),
                is_result: false,
            }),
        }
    }

    /// Makes what the body gives a `dalsegno::Result`.
    pub(crate) fn convert(&self, output: TokenStream) -> TokenStream {
        match self.is_result {
            true => quote!(#output.map_err(::dalsegno::Error::from)),
            false => quote!(::core::result::Result::Ok(#output)),
        }
    }
}

fn value_of(segment: &PathSegment) -> Result<TokenStream> {
    if let PathArguments::AngleBracketed(arguments) = &segment.arguments {
        let first = arguments.args.iter().find_map(|argument| match argument {
            GenericArgument::Type(kind) => Some(kind),
            _ => None,
        });
        if let Some(kind) = first {
            return Ok(quote!(#kind));
        }
    }
    Err(Error::new_spanned(
        segment,
        "write the result's type out: `Result<T>` or `Result<T, E>`",
    ))
}

/// Attributes that belong to the function that returns the definition, and those of the body.
pub(crate) fn split_attributes(function: &mut ItemFn) -> TokenStream {
    const OUTER: [&str; 8] = [
        "doc",
        "cfg",
        "cfg_attr",
        "deprecated",
        "allow",
        "expect",
        "warn",
        "deny",
    ];
    let is_outer = |attribute: &syn::Attribute| OUTER.iter().any(|name| attribute.path().is_ident(name));
    let (outer, inner): (Vec<_>, Vec<_>) = std::mem::take(&mut function.attrs)
        .into_iter()
        .partition(is_outer);
    function.attrs = inner;
    quote!(#(#outer)*)
}
