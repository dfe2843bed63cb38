//! What stands between the parentheses of an attribute.

use proc_macro2::TokenStream;
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Error, Expr, ExprLit, Ident, Lit, LitStr, Result, Token};

/// `key = value` or a lone word.
pub(crate) struct Argument {
    pub(crate) key: Ident,
    pub(crate) value: Option<Expr>,
}

impl Parse for Argument {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let key = input.parse()?;
        let value = match input.parse::<Option<Token![=]>>()? {
            Some(_) => Some(input.parse()?),
            None => None,
        };
        Ok(Self { key, value })
    }
}

/// The arguments of an attribute, in order.
pub(crate) struct Arguments(Vec<Argument>);

impl Arguments {
    pub(crate) fn parse(tokens: TokenStream) -> Result<Self> {
        let parser = Punctuated::<Argument, Token![,]>::parse_terminated;
        let arguments: Vec<Argument> = parser.parse2(tokens)?.into_iter().collect();
        for (at, argument) in arguments.iter().enumerate() {
            if arguments[..at].iter().any(|before| before.key == argument.key) {
                return Err(Error::new(
                    argument.key.span(),
                    format!("`{}` is said twice", argument.key),
                ));
            }
        }
        Ok(Self(arguments))
    }

    /// Takes out a flag: a lone word.
    pub(crate) fn take_flag(&mut self, key: &str) -> bool {
        let before = self.0.len();
        self.0
            .retain(|argument| argument.key != key || argument.value.is_some());
        self.0.len() < before
    }

    /// Takes out the value of a key.
    pub(crate) fn take(&mut self, key: &str) -> Option<Argument> {
        let at = self.0.iter().position(|argument| argument.key == key)?;
        Some(self.0.remove(at))
    }

    /// Takes out the value of a key that must be a text.
    pub(crate) fn take_text(&mut self, key: &str) -> Result<Option<LitStr>> {
        match self.take(key) {
            None => Ok(None),
            Some(Argument {
                value:
                    Some(Expr::Lit(ExprLit {
                        lit: Lit::Str(text), ..
                    })),
                ..
            }) => Ok(Some(text)),
            Some(argument) => Err(Error::new(
                argument.key.span(),
                format!("`{key}` is a text: {key} = \"..\""),
            )),
        }
    }

    /// What is left: calls on the definition.
    pub(crate) fn into_calls(self) -> Result<Vec<(Ident, Expr)>> {
        let calls = self.0.into_iter().map(|argument| match argument.value {
            Some(value) => Ok((argument.key, value)),
            None => Err(Error::new(
                argument.key.span(),
                format!("`{}` has no value: say `{} = ..`", argument.key, argument.key),
            )),
        });
        calls.collect()
    }
}
