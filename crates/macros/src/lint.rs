//! Finds in an orchestrator's body what a replay would not repeat.
//!
//! Looks at the paths as written, macros included; not at what the body calls.

use proc_macro2::{Ident, Spacing, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::Error;

/// Crates and modules of which nothing fits, and why.
const MODULES: &[(&[&str], &str)] = &[
    (&["tokio"], RUNTIME),
    (&["async_std"], RUNTIME),
    (&["smol"], RUNTIME),
    (&["futures", "executor"], RUNTIME),
    (&["std", "thread"], THREAD),
    (&["std", "fs"], IO),
    (&["std", "net"], IO),
    (&["std", "process"], IO),
    (&["std", "env"], IO),
    (&["reqwest"], IO),
    (&["hyper"], IO),
    (&["ureq"], IO),
    (&["sqlx"], IO),
    (&["rand"], CHANCE),
    (&["fastrand"], CHANCE),
    (&["getrandom"], CHANCE),
];

/// Functions that do not fit, and why.
const FUNCTIONS: &[(&[&str], &str)] = &[
    (&["tokio", "select"], SELECT),
    (&["futures", "select"], SELECT),
    (&["futures_util", "select"], SELECT),
    (&["thread", "spawn"], THREAD),
    (&["thread", "sleep"], THREAD),
    (&["SystemTime", "now"], CLOCK),
    (&["Instant", "now"], CLOCK),
    (&["Utc", "now"], CLOCK),
    (&["Local", "now"], CLOCK),
    (&["Zoned", "now"], CLOCK),
    (&["OffsetDateTime", "now_utc"], CLOCK),
    (&["Uuid", "new_v4"], UUID),
    (&["Uuid", "now_v7"], UUID),
];

const RUNTIME: &str = "no async runtime is there in an orchestrator: wait with `ctx.timer(..)`, run branches with \
                       `join_all`, and do I/O in an activity";
const THREAD: &str =
    "an orchestrator starts no threads and does not sleep: use an activity, or `ctx.timer(..)`";
const IO: &str = "an orchestrator does no I/O, because a replay would do it again: call an activity";
const CHANCE: &str =
    "chance comes out differently in a replay: draw it in an activity, or use `ctx.new_uuid()`";
const CLOCK: &str = "the clock shows another time in a replay: use `ctx.now()`";
const UUID: &str = "a replay would make another UUID: use `ctx.new_uuid()`";
const SELECT: &str =
    "this `select!` chooses by chance, which a replay would not repeat: use `dalsegno::select!`";

/// Errors for all finds in a body.
pub(crate) fn check(body: &impl ToTokens) -> TokenStream {
    let mut errors = TokenStream::new();
    check_tokens(body.to_token_stream(), &mut errors);
    errors
}

fn check_tokens(tokens: TokenStream, errors: &mut TokenStream) {
    let mut path: Vec<Ident> = Vec::new();
    let mut colons = 0;
    for token in tokens {
        match token {
            TokenTree::Punct(punct)
                if punct.as_char() == ':' && (colons == 1 || punct.spacing() == Spacing::Joint) =>
            {
                colons += 1;
                continue;
            }
            TokenTree::Ident(ident) => {
                if colons != 2 {
                    check_path(&path, errors);
                    path.clear();
                }
                path.push(ident);
            }
            TokenTree::Group(group) => {
                check_path(&path, errors);
                path.clear();
                check_tokens(group.stream(), errors);
            }
            _ => {
                check_path(&path, errors);
                path.clear();
            }
        }
        colons = 0;
    }
    check_path(&path, errors);
}

fn check_path(path: &[Ident], errors: &mut TokenStream) {
    if path.len() < 2 {
        return;
    }
    let matches = |at: usize, words: &[&str]| {
        let end = at + words.len();
        end <= path.len() && path[at..end].iter().zip(words).all(|(ident, word)| ident == word)
    };
    let function = FUNCTIONS
        .iter()
        .find(|(words, _)| (0..path.len()).any(|at| matches(at, words)));
    let found = function.or_else(|| MODULES.iter().find(|(words, _)| matches(0, words)));
    if let Some((_, text)) = found {
        let text = format!("{text}. `#[orchestrator(unchecked)]` leaves this check out");
        errors.extend(Error::new_spanned(quote!(#(#path)::*), text).to_compile_error());
    }
}
