//! What a route is: one entry of a table, by which requests are matched and of which the OpenAPI
//! document tells. What is not in a table is neither served nor described.

use axum::http::Method;
use schemars::{Schema, SchemaGenerator};

use crate::keys::{LinkOperation, Scope};

/// A route: how it is asked for, what it takes, what it answers.
#[derive(Debug)]
pub(crate) struct Route<T: 'static> {
    pub(crate) verb: Verb,
    /// Below the prefix of its API: literals, and `{names}` of what is taken from the path.
    pub(crate) path: &'static str,
    to: fn(&Captured<'_>) -> T,
    /// Unique in the document.
    pub(crate) operation: &'static str,
    pub(crate) summary: &'static str,
    /// The scope that the caller's key needs; `None` needs no key.
    pub(crate) scope: Option<Scope>,
    /// What some of its requests need besides.
    pub(crate) also: &'static [Also],
    /// The hub that the key must open.
    pub(crate) reach: Reach,
    /// A link for this operation on the instance in the path opens the route too.
    pub(crate) link: Option<LinkOperation>,
    /// What the query may hold beside what every route takes.
    pub(crate) query: &'static [Parameter],
    pub(crate) headers: &'static [Header],
    pub(crate) body: RequestBody,
    /// Statuses of refusals beside those that every route may answer with.
    pub(crate) refusals: &'static [u16],
    pub(crate) answers: &'static [Answer],
}

/// A second scope that a request of a route needs when it asks for more than the route is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Also {
    pub(crate) scope: Scope,
    pub(crate) when: When,
}

/// Which requests of a route need a second scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// This flag of the query is true.
    Flag(&'static str),
    /// This member has this value: of the body, or of the bulk operation in the path.
    Member(&'static str, &'static str),
    /// The path names an entity where it captures the id of an instance.
    Entity,
}

impl Also {
    pub(crate) const fn flag(name: &'static str, scope: Scope) -> Self {
        Self {
            scope,
            when: When::Flag(name),
        }
    }

    pub(crate) const fn member(name: &'static str, value: &'static str, scope: Scope) -> Self {
        Self {
            scope,
            when: When::Member(name, value),
        }
    }

    pub(crate) const fn entity(scope: Scope) -> Self {
        Self {
            scope,
            when: When::Entity,
        }
    }
}

/// The hub that a key must open for a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The hub that the query names, the default hub if it names none.
    NamedHub,
    /// The hub in the path.
    HubInPath,
    /// The hub in the path, which may not exist yet.
    NewHub,
    /// The default hub, whatever the query names: the route is about the app of this process.
    DefaultHub,
    /// All hubs: the route changes what belongs to the whole host.
    Host,
    /// Any: the answer holds nothing of a hub, or only of those that the caller may enter.
    AnyHub,
}

impl Reach {
    /// As the OpenAPI document says it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::NamedHub => "named",
            Self::HubInPath | Self::NewHub => "path",
            Self::DefaultHub => "default",
            Self::Host => "all",
            Self::AnyHub => "any",
        }
    }
}

/// The method of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Post,
    Put,
    Patch,
    Delete,
    Any,
}

/// A parameter of a query.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) is_required: bool,
    pub(crate) text: &'static str,
}

/// What a parameter may be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    Text,
    /// The id of an instance.
    InstanceId,
    /// `true` or `false`, and what it is when not given.
    Flag(bool),
    /// Rows of a page: at most `http.page_max`.
    PageRows,
    /// A number from 1, and what it is when not given.
    Count {
        default: usize,
        most: usize,
    },
    /// The number of a task, from 0.
    Task,
    /// Seconds from 0, decimals allowed.
    Seconds {
        most: f64,
    },
    Time,
    /// Names of statuses, separated by commas or repeated.
    Statuses,
    /// The same, of finished instances alone.
    FinishedStatuses,
    /// One of these.
    Words(&'static [&'static str]),
    /// `name=value`, repeated.
    Tags,
}

/// A header that a route looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Header {
    IdempotencyKey,
    /// `traceparent` and `tracestate`.
    Trace,
    ContinuationToken,
    LastEventId,
}

/// What a route takes as its body.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RequestBody {
    /// It is not looked at.
    None,
    /// One JSON value or nothing.
    Value,
    /// The same, or a text.
    ValueOrText,
    /// An object of this shape or nothing.
    MayBe(fn(&mut SchemaGenerator) -> Schema),
    /// An object of this shape.
    Is(fn(&mut SchemaGenerator) -> Schema),
}

/// An answer that is no refusal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: &'static str,
    pub(crate) content: Content,
    /// Headers that it always has.
    pub(crate) headers: &'static [&'static str],
}

/// The body of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content {
    Empty,
    Json(fn(&mut SchemaGenerator) -> Schema),
    /// Text of another kind.
    Text(&'static str),
}

/// What a path holds in the places of the names, in order.
#[derive(Debug)]
pub(crate) struct Captured<'a>(Vec<&'a str>);

impl Captured<'_> {
    pub(crate) fn text(&self, place: usize) -> String {
        self.0[place].to_owned()
    }

    /// `$` stands for the empty key, which a path cannot say otherwise.
    pub(crate) fn key(&self, place: usize) -> String {
        match self.0[place] {
            "$" => String::new(),
            key => key.to_owned(),
        }
    }
}

/// The route of a method and the segments behind the prefix, if there is one.
pub(crate) fn find<T>(
    routes: &'static [Route<T>],
    method: &Method,
    segments: &[String],
) -> Option<(&'static Route<T>, T)> {
    routes
        .iter()
        .filter(|route| route.verb.is(method))
        .find_map(|route| Some((route, (route.to)(&route.captured(segments)?))))
}

impl Verb {
    fn is(self, method: &Method) -> bool {
        match self {
            Self::Get => *method == Method::GET,
            Self::Post => *method == Method::POST,
            Self::Put => *method == Method::PUT,
            Self::Patch => *method == Method::PATCH,
            Self::Delete => *method == Method::DELETE,
            Self::Any => true,
        }
    }

    /// The methods that the document tells of, as it spells them.
    pub(crate) fn methods(self) -> &'static [&'static str] {
        match self {
            Self::Get => &["get"],
            Self::Post => &["post"],
            Self::Put => &["put"],
            Self::Patch => &["patch"],
            Self::Delete => &["delete"],
            Self::Any => &["get", "post", "put", "delete", "patch"],
        }
    }
}

impl Parameter {
    pub(crate) const fn new(name: &'static str, shape: Shape, text: &'static str) -> Self {
        Self {
            name,
            shape,
            is_required: false,
            text,
        }
    }

    pub(crate) const fn required(self) -> Self {
        Self {
            is_required: true,
            ..self
        }
    }
}

impl Answer {
    pub(crate) const fn empty(status: u16, text: &'static str) -> Self {
        Self {
            status,
            text,
            content: Content::Empty,
            headers: &[],
        }
    }

    pub(crate) const fn json(
        status: u16,
        text: &'static str,
        schema: fn(&mut SchemaGenerator) -> Schema,
    ) -> Self {
        Self {
            content: Content::Json(schema),
            ..Self::empty(status, text)
        }
    }

    pub(crate) const fn text(status: u16, text: &'static str, media: &'static str) -> Self {
        Self {
            content: Content::Text(media),
            ..Self::empty(status, text)
        }
    }

    pub(crate) const fn with(self, headers: &'static [&'static str]) -> Self {
        Self { headers, ..self }
    }
}

impl<T> Route<T> {
    pub(crate) const fn new(verb: Verb, path: &'static str, to: fn(&Captured<'_>) -> T) -> Self {
        Self {
            verb,
            path,
            to,
            operation: "",
            summary: "",
            scope: Some(Scope::Read),
            also: &[],
            reach: Reach::NamedHub,
            link: None,
            query: &[],
            headers: &[],
            body: RequestBody::None,
            refusals: &[],
            answers: &[],
        }
    }

    pub(crate) const fn told(mut self, operation: &'static str, summary: &'static str) -> Self {
        self.operation = operation;
        self.summary = summary;
        self
    }

    pub(crate) const fn scope(mut self, scope: Scope) -> Self {
        self.scope = Some(scope);
        self
    }

    pub(crate) const fn also(mut self, also: &'static [Also]) -> Self {
        self.also = also;
        self
    }

    pub(crate) const fn reach(mut self, reach: Reach) -> Self {
        self.reach = reach;
        self
    }

    pub(crate) const fn link(mut self, operation: LinkOperation) -> Self {
        self.link = Some(operation);
        self
    }

    pub(crate) const fn open(mut self) -> Self {
        self.scope = None;
        self
    }

    pub(crate) const fn query(mut self, query: &'static [Parameter]) -> Self {
        self.query = query;
        self
    }

    pub(crate) const fn headers(mut self, headers: &'static [Header]) -> Self {
        self.headers = headers;
        self
    }

    pub(crate) const fn body(mut self, body: RequestBody) -> Self {
        self.body = body;
        self
    }

    pub(crate) const fn refuses(mut self, refusals: &'static [u16]) -> Self {
        self.refusals = refusals;
        self
    }

    pub(crate) const fn answers(mut self, answers: &'static [Answer]) -> Self {
        self.answers = answers;
        self
    }

    /// What it is when nothing is taken from its path.
    pub(crate) fn face(&self) -> T {
        (self.to)(&Captured(Vec::new()))
    }

    /// What stands in the places of the names when the path is this one: literals in any case.
    fn captured<'a>(&self, segments: &'a [String]) -> Option<Captured<'a>> {
        let mut own = self.path.split('/');
        let mut captured = Vec::new();
        for segment in segments {
            let part = own.next()?;
            if part.starts_with('{') {
                captured.push(segment.as_str());
            } else if !part.eq_ignore_ascii_case(segment) {
                return None;
            }
        }
        own.next().is_none().then_some(Captured(captured))
    }
}
