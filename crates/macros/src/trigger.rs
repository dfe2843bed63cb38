//! `#[http_trigger]` and `#[timer_trigger]`.

use croner::parser::{CronParser, Seconds, Year};
use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::parse::{Parse, ParseStream};
use syn::{Error, Expr, ExprLit, Ident, ItemFn, Lit, LitStr, Result, Token};

use crate::arguments::{Argument, Arguments};
use crate::function::plain;
use crate::signature::{self, Output, argument_types, is_named};

const METHODS: [&str; 7] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"];

pub(crate) fn http_trigger(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let mut arguments = Arguments::parse(arguments)?;
    let function: ItemFn = syn::parse2(item)?;
    signature::check(&function.sig, "an HTTP trigger")?;
    let name = arguments.take_text("name")?;
    let route = arguments.take_text("route")?.map(|route| quote!(.route(#route)));
    let methods = arguments.take("methods").map(methods).transpose()?;
    let auth = arguments.take("auth").map(auth_level).transpose()?;
    refuse_rest(arguments, "route, methods, auth and name")?;
    let definition = |name: &LitStr| {
        quote! {
            ::dalsegno::HttpTrigger::new(#name, __body) #route #methods #auth
        }
    };
    Ok(around(function, "HttpTrigger", name, definition))
}

/// `timer_trigger("0 0 7 * * *", time_zone = "Europe/Berlin", run_on_startup)`
struct TimerArguments {
    schedule: LitStr,
    rest: TokenStream,
}

impl Parse for TimerArguments {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let schedule = input.parse()?;
        if !input.is_empty() {
            input.parse::<Token![,]>()?;
        }
        let rest = input.parse()?;
        Ok(Self { schedule, rest })
    }
}

pub(crate) fn timer_trigger(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let TimerArguments { schedule, rest } = syn::parse2(arguments)?;
    let mut arguments = Arguments::parse(rest)?;
    check_schedule(&schedule)?;
    let function: ItemFn = syn::parse2(item)?;
    signature::check(&function.sig, "a timer trigger")?;
    let name = arguments.take_text("name")?;
    let zone = arguments
        .take_text("time_zone")?
        .map(|zone| quote!(.time_zone(#zone)));
    let startup = arguments
        .take_flag("run_on_startup")
        .then(|| quote!(.run_on_startup(true)));
    let startup = startup.or_else(|| {
        let value = arguments.take("run_on_startup")?.value;
        Some(quote!(.run_on_startup(#value)))
    });
    refuse_rest(arguments, "the schedule, time_zone, run_on_startup and name")?;
    let handed = handed_arguments(&function)?;
    let run = Output::of(&function.sig)?.convert(quote!(__body(#(#handed),*).await));
    let definition = |name: &LitStr| {
        quote! {
            ::dalsegno::TimerTrigger::new(#name, #schedule, |__client, __info| {
                ::std::boxed::Box::pin(async move { #run })
            })
            #zone #startup
        }
    };
    Ok(around(function, "TimerTrigger", name, definition))
}

/// The function that returns the definition, around the body.
fn around(
    mut function: ItemFn,
    kind: &str,
    name: Option<LitStr>,
    definition: impl FnOnce(&LitStr) -> TokenStream,
) -> TokenStream {
    let ident = function.sig.ident.clone();
    let name = name.unwrap_or_else(|| LitStr::new(&plain(&ident), ident.span()));
    let attributes = signature::split_attributes(&mut function);
    let visibility = std::mem::replace(&mut function.vis, syn::Visibility::Inherited);
    function.sig.ident = format_ident!("__body", span = ident.span());
    let (kind, definition) = (format_ident!("{kind}"), definition(&name));
    quote! {
        #attributes
        #visibility fn #ident() -> ::dalsegno::#kind {
            #function
            #definition
        }
    }
}

fn refuse_rest(arguments: Arguments, known: &str) -> Result<()> {
    match arguments.into_calls()?.first() {
        None => Ok(()),
        Some((key, _)) => Err(Error::new(
            key.span(),
            format!("`{key}` is not known here; known are {known}"),
        )),
    }
}

fn methods(argument: Argument) -> Result<TokenStream> {
    let Some(Expr::Array(list)) = &argument.value else {
        return Err(Error::new(
            argument.key.span(),
            "`methods` is a list: methods = [\"GET\", \"POST\"]",
        ));
    };
    for method in &list.elems {
        match method {
            Expr::Lit(ExprLit {
                lit: Lit::Str(text), ..
            }) if METHODS.contains(&text.value().as_str()) => {}
            other => {
                let text = format!("not an HTTP method in capitals; known are {}", METHODS.join(", "));
                return Err(Error::new_spanned(other, text));
            }
        }
    }
    Ok(quote!(.methods(#list)))
}

fn auth_level(argument: Argument) -> Result<TokenStream> {
    let word = match &argument.value {
        Some(Expr::Path(path)) => path.path.get_ident().map(Ident::to_string),
        _ => None,
    };
    match word.as_deref() {
        Some("anonymous") => Ok(quote!(.auth(::dalsegno::AuthLevel::Anonymous))),
        Some("function") => Ok(quote!(.auth(::dalsegno::AuthLevel::Function))),
        Some("admin") => Ok(quote!(.auth(::dalsegno::AuthLevel::Admin))),
        _ => Err(Error::new(
            argument.key.span(),
            "`auth` is one of anonymous, function, admin",
        )),
    }
}

/// NCRONTAB: six fields, seconds first; day and weekday must both fit.
fn check_schedule(schedule: &LitStr) -> Result<()> {
    let fields = CronParser::builder()
        .seconds(Seconds::Required)
        .year(Year::Disallowed);
    let parser = fields.dom_and_dow(true).build();
    match parser.parse(&schedule.value()) {
        Ok(_) => Ok(()),
        Err(error) => {
            let error = error.to_string();
            let text = format!(
                "no NCRONTAB schedule: {}. It has six fields: second, minute, hour, day, month, weekday; \
                 seven in the morning is \"0 0 7 * * *\"",
                error.trim_end_matches('.')
            );
            Err(Error::new_spanned(schedule, text))
        }
    }
}

/// What the body is called with: the client, the occurrence, in the order it takes them.
fn handed_arguments(function: &ItemFn) -> Result<Vec<Ident>> {
    let handed = argument_types(&function.sig).into_iter().map(|kind| {
        if is_named(kind, "Client") {
            Ok(format_ident!("__client"))
        } else if is_named(kind, "TimerInfo") {
            Ok(format_ident!("__info"))
        } else {
            Err(Error::new_spanned(
                kind,
                "a timer trigger takes `Client` and `TimerInfo`, nothing else",
            ))
        }
    });
    handed.collect()
}
