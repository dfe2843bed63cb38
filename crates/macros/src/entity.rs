//! `#[entity]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{
    Attribute, Error, FnArg, Ident, ImplItem, ImplItemFn, ItemImpl, LitStr, ReceiverKind, Result, Type,
};

use crate::arguments::Arguments;
use crate::function::plain;
use crate::signature::{Output, argument_types, is_named, last_segment, single_input};

pub(crate) fn entity(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let mut arguments = Arguments::parse(arguments)?;
    let block: ItemImpl = syn::parse2(item)?;
    let state = state_ident(&block)?;
    let name = arguments.take_text("name")?;
    let name = name
        .map_or_else(|| plain(&state), |name| name.value())
        .to_lowercase();
    if let Some((key, _)) = arguments.into_calls()?.first() {
        return Err(Error::new(
            key.span(),
            format!("`{key}` is not known here; known is name"),
        ));
    }
    let operations = operations(&block)?;
    let proxy = format_ident!("{state}Proxy");
    let implementation = implementation(&state, &proxy, &name, &operations);
    let proxy = proxy_items(&state, &proxy, &operations);
    Ok(quote!(#block #implementation #proxy))
}

/// The type whose values are the states: plain, without parameters.
fn state_ident(block: &ItemImpl) -> Result<Ident> {
    if block.trait_.is_some() {
        return Err(Error::new_spanned(
            &block.self_ty,
            "`#[entity]` stands on the type's own `impl` block",
        ));
    }
    if !block.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &block.generics,
            "an entity has no type parameters: its name stands for one type",
        ));
    }
    match last_segment(&block.self_ty) {
        Some(segment) => Ok(segment.ident.clone()),
        None => Err(Error::new_spanned(
            &block.self_ty,
            "`#[entity]` stands on the `impl` block of a struct or enum",
        )),
    }
}

struct Operation<'a> {
    method: &'a ImplItemFn,
    with_context: bool,
    input: Option<Type>,
    output: Output,
}

fn operations(block: &ItemImpl) -> Result<Vec<Operation<'_>>> {
    let methods = block.items.iter().filter_map(|item| match item {
        ImplItem::Fn(method) if method.sig.receiver().is_some() => Some(method),
        _ => None,
    });
    methods.map(operation).collect()
}

fn operation(method: &ImplItemFn) -> Result<Operation<'_>> {
    if let Some(FnArg::Receiver(receiver)) = method.sig.inputs.first()
        && !matches!(receiver.kind, ReceiverKind::Reference(..))
    {
        return Err(Error::new_spanned(
            receiver,
            "an operation takes `&self` or `&mut self`",
        ));
    }
    if !method.sig.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &method.sig.generics,
            "an operation has no type parameters",
        ));
    }
    let types = argument_types(&method.sig);
    let (with_context, inputs) = match types.split_first() {
        Some((context, inputs)) if is_named(context, "EntityContext") => (true, inputs),
        _ => (false, &types[..]),
    };
    Ok(Operation {
        method,
        with_context,
        input: single_input(inputs, "an operation")?,
        output: Output::of(&method.sig)?,
    })
}

impl Operation<'_> {
    fn name(&self) -> String {
        plain(&self.method.sig.ident)
    }

    fn input(&self) -> TokenStream {
        self.input
            .as_ref()
            .map_or_else(|| quote!(()), |input| quote!(#input))
    }

    /// The call of the method on `__state`.
    fn call(&self, state: &Ident, context: TokenStream) -> TokenStream {
        let method = &self.method.sig.ident;
        let context = self.with_context.then_some(context);
        let input = self.input.as_ref().map(|_| quote!(__input));
        let arguments = context.into_iter().chain(input);
        quote!(#state::#method(__state #(, #arguments)*))
    }

    /// The line of the definition.
    fn definition(&self, state: &Ident) -> TokenStream {
        let (name, input) = (self.name(), self.input());
        if self.method.sig.asyncness.is_none() {
            let run = self.output.convert(self.call(state, quote!(__context)));
            return quote! {
                .operation(#name, |__state: &mut #state, __context: &::dalsegno::EntityContext, __input: #input| #run)
            };
        }
        let call = self.call(state, quote!(&__context));
        let run = self.output.convert(quote!(#call.await));
        quote! {
            .async_operation(#name, |mut __owned: #state, __context: ::dalsegno::EntityContext, __input: #input| {
                ::std::boxed::Box::pin(async move {
                    let __state = &mut __owned;
                    let __result = #run;
                    (__owned, __result)
                })
            })
        }
    }

    /// The method of the proxy.
    fn proxy_method(&self) -> TokenStream {
        let (ident, name, value) = (&self.method.sig.ident, self.name(), &self.output.value);
        let docs = docs(&self.method.attrs);
        let (argument, handed) = match &self.input {
            Some(input) => (quote!(, input: #input), quote!(&input)),
            None => (quote!(), quote!(&())),
        };
        quote! {
            #(#docs)*
            #[track_caller]
            pub fn #ident(&self #argument) -> __Caller::Call<#value> {
                self.inner.call(#name, #handed)
            }
        }
    }
}

fn docs(attributes: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("doc"))
}

fn implementation(state: &Ident, proxy: &Ident, name: &str, operations: &[Operation<'_>]) -> TokenStream {
    let name = LitStr::new(name, state.span());
    let definitions = operations.iter().map(|operation| operation.definition(state));
    quote! {
        impl ::dalsegno::Entity for #state {
            const NAME: &'static str = #name;
            type Proxy<__Caller: ::dalsegno::EntityCaller> = #proxy<__Caller>;

            fn proxy<__Caller: ::dalsegno::EntityCaller>(
                caller: __Caller,
                id: ::dalsegno::EntityId,
            ) -> #proxy<__Caller> {
                #proxy { inner: ::dalsegno::EntityProxy::new(caller, id) }
            }

            fn definition() -> ::dalsegno::EntityDefinition<Self> {
                ::dalsegno::EntityDefinition::new(#name) #(#definitions)*
            }
        }
    }
}

fn proxy_items(state: &Ident, proxy: &Ident, operations: &[Operation<'_>]) -> TokenStream {
    let methods = operations.iter().map(Operation::proxy_method);
    let text = format!("The operations of [`{state}`], for whoever may call them.");
    let lints = quote!(#[allow(dead_code, private_interfaces, unreachable_pub, missing_docs)]);
    let state_method = match operations.iter().any(|operation| operation.name() == "state") {
        true => quote!(),
        false => quote! {
            #lints
            impl #proxy<::dalsegno::Client> {
                /// The entity's state, or `None` when it has none.
                ///
                /// # Errors
                /// When it does not fit the type.
                pub async fn state(&self) -> ::dalsegno::Result<::core::option::Option<#state>> {
                    self.inner.state_as().await
                }
            }
        },
    };
    quote! {
        #[doc = #text]
        #lints
        #[derive(Clone, Debug)]
        pub struct #proxy<__Caller> {
            inner: ::dalsegno::EntityProxy<__Caller>,
        }

        #lints
        impl<__Caller: ::dalsegno::EntityCaller> #proxy<__Caller> {
            #(#methods)*
        }

        #state_method

        #lints
        impl<__Caller> ::core::ops::Deref for #proxy<__Caller> {
            type Target = ::dalsegno::EntityProxy<__Caller>;

            fn deref(&self) -> &Self::Target {
                &self.inner
            }
        }
    }
}
