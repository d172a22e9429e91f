//! Endpoints and their description from the same lines: what is served is what is described, and every endpoint has a
//! rule, because it cannot be added without one.

use std::collections::BTreeMap;

use axum::Router;
use axum::handler::Handler;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, on};
use http::Method;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::Service;
use super::caller::Role;
use super::error::ProblemBody;
use super::guard::{Rule, guard};

/// Who may call an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Open,
    /// Whoever signs what is sent; the endpoint checks that itself.
    Signed,
    /// Keys with one of these roles.
    Roles(&'static [Role]),
    /// The same, and a WebSocket may name its key in its first message: browsers send no headers with one.
    Socket(&'static [Role]),
}

/// What it means for an endpoint that a key is limited to properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Nothing: what it serves belongs to no property.
    Free,
    /// It takes only keys that are not limited.
    All,
    /// It serves what belongs to the key's properties, and the handler sees to it.
    Own,
}

/// Makes the schema of a type, with the types below it among the shared ones.
type Schema = fn(&mut SchemaGenerator) -> Value;

/// One answer of an endpoint.
#[derive(Debug)]
struct Answer {
    status: u16,
    about: &'static str,
    format: &'static str,
    schema: Option<Schema>,
}

/// The description of one endpoint.
#[derive(Debug)]
pub struct Endpoint {
    method: Method,
    path: &'static str,
    group: &'static str,
    about: &'static str,
    rule: Rule,
    path_about: Vec<(&'static str, &'static str)>,
    query: Option<Schema>,
    body: Option<(&'static str, Schema)>,
    may_be_empty: bool,
    answers: Vec<Answer>,
    problems: Vec<u16>,
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

fn inline<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    T::json_schema(generator).to_value()
}

impl Endpoint {
    fn new(method: Method, path: &'static str, access: Access, scope: Scope) -> Self {
        Self {
            method,
            path,
            group: "",
            about: "",
            rule: Rule { access, scope, repeatable: false },
            path_about: Vec::new(),
            query: None,
            body: None,
            may_be_empty: false,
            answers: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// An endpoint that reads.
    pub fn get(path: &'static str, access: Access, scope: Scope) -> Self {
        Self::new(Method::GET, path, access, scope)
    }

    /// An endpoint that makes something, or sets something off.
    pub fn post(path: &'static str, access: Access, scope: Scope) -> Self {
        Self::new(Method::POST, path, access, scope)
    }

    /// An endpoint that replaces something.
    pub fn put(path: &'static str, access: Access, scope: Scope) -> Self {
        Self::new(Method::PUT, path, access, scope)
    }

    /// An endpoint that removes something.
    pub fn delete(path: &'static str, access: Access, scope: Scope) -> Self {
        Self::new(Method::DELETE, path, access, scope)
    }

    /// What it does, in one sentence.
    #[must_use]
    pub fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    /// What a variable part of the path is.
    #[must_use]
    pub fn part(mut self, name: &'static str, about: &'static str) -> Self {
        self.path_about.push((name, about));
        self
    }

    /// The parameters behind the `?`: the fields of a struct.
    #[must_use]
    pub fn query<T: JsonSchema>(mut self) -> Self {
        self.query = Some(inline::<T>);
        self
    }

    /// The JSON body that it takes.
    #[must_use]
    pub fn body<T: JsonSchema>(mut self) -> Self {
        self.body = Some(("application/json", schema::<T>));
        self
    }

    /// The JSON body that it takes, or none.
    #[must_use]
    pub fn may_body<T: JsonSchema>(mut self) -> Self {
        self.may_be_empty = true;
        self.body::<T>()
    }

    /// A body that only the connector understands.
    #[must_use]
    pub fn any_body(mut self) -> Self {
        self.body = Some(("*/*", |_| json!({})));
        self
    }

    /// An answer in JSON.
    #[must_use]
    pub fn answers<T: JsonSchema>(mut self, status: u16, about: &'static str) -> Self {
        self.answers.push(Answer { status, about, format: "application/json", schema: Some(schema::<T>) });
        self
    }

    /// An answer in another format.
    #[must_use]
    pub fn answers_as(mut self, status: u16, about: &'static str, format: &'static str) -> Self {
        self.answers.push(Answer { status, about, format, schema: None });
        self
    }

    /// Problems that it has besides those of its rule.
    #[must_use]
    pub fn problems(mut self, statuses: &[u16]) -> Self {
        self.problems.extend_from_slice(statuses);
        self
    }

    /// Takes an `Idempotency-Key`: a repeated request gets the same answer and changes nothing.
    #[must_use]
    pub fn repeatable(mut self) -> Self {
        self.rule.repeatable = true;
        self
    }

    fn operation(&self, generator: &mut SchemaGenerator) -> Value {
        let mut parameters: Vec<Value> = self
            .path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .map(|name| {
                let about = self.path_about.iter().find(|(n, _)| *n == name).map_or("", |(_, about)| *about);
                json!({ "name": name, "in": "path", "required": true, "description": about, "schema": { "type": "string" } })
            })
            .collect();
        if let Some(query) = self.query.map(|query| query(generator)) {
            let required: Vec<&str> =
                query["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            for (name, field) in query["properties"].as_object().into_iter().flatten() {
                let mut field = field.clone();
                let about = field.as_object_mut().and_then(|f| f.remove("description")).unwrap_or_default();
                parameters.push(json!({
                    "name": name, "in": "query", "required": required.contains(&name.as_str()), "description": about,
                    "schema": field,
                }));
            }
        }
        if self.rule.repeatable {
            parameters.push(json!({
                "name": "Idempotency-Key", "in": "header", "required": false, "schema": { "type": "string", "maxLength": 200 },
                "description": "Names this request: sent again with the same key and body it gets the same answer and changes nothing.",
            }));
        }
        let mut answers = Map::new();
        for Answer { status, about, format, schema } in &self.answers {
            let content = schema.map_or_else(|| json!({}), |schema| json!({ "schema": schema(generator) }));
            answers.insert(status.to_string(), json!({ "description": about, "content": { *format: content } }));
        }
        let mut problems = self.problems.clone();
        if let Access::Roles(_) | Access::Socket(_) = self.rule.access {
            problems.extend([401, 403]);
        }
        if self.rule.repeatable {
            problems.extend([409, 422]);
        }
        for status in problems {
            answers.entry(status.to_string()).or_insert_with(|| json!({ "$ref": "#/components/responses/Problem" }));
        }
        let mut operation = json!({
            "tags": [self.group], "summary": self.about, "parameters": parameters, "responses": answers,
            "x-property-scope": match self.rule.scope { Scope::Free => "free", Scope::All => "all", Scope::Own => "own" },
        });
        operation["security"] = match self.rule.access {
            Access::Open => json!([]),
            Access::Signed => json!([{ "signature": [] }]),
            Access::Roles(roles) | Access::Socket(roles) => {
                json!([{ "api_key": roles.iter().map(|r| r.as_str()).collect::<Vec<_>>() }])
            }
        };
        if let Some((format, body)) = self.body {
            operation["requestBody"] =
                json!({ "required": !self.may_be_empty, "content": { format: { "schema": body(generator) } } });
        }
        operation
    }
}

/// Endpoints under construction.
pub struct Api {
    router: Router<Service>,
    service: Service,
    generator: SchemaGenerator,
    paths: BTreeMap<&'static str, Map<String, Value>>,
    groups: Vec<(&'static str, &'static str)>,
}

impl Api {
    /// None yet.
    pub fn new(service: Service) -> Self {
        let settings = SchemaSettings::draft2020_12().with(|s| {
            s.definitions_path = "/components/schemas".into();
            s.meta_schema = None;
        });
        Self {
            router: Router::new(),
            service,
            generator: SchemaGenerator::new(settings),
            paths: BTreeMap::new(),
            groups: Vec::new(),
        }
    }

    /// The endpoints that follow belong together.
    #[must_use]
    pub fn group(mut self, name: &'static str, about: &'static str) -> Self {
        self.groups.push((name, about));
        self
    }

    /// Adds an endpoint: what is said about it, and what it does.
    #[must_use]
    pub fn add<H, T>(mut self, mut endpoint: Endpoint, handler: H) -> Self
    where
        H: Handler<T, Service>,
        T: 'static,
    {
        endpoint.group = self.groups.last().map_or("", |(name, _)| *name);
        let operation = endpoint.operation(&mut self.generator);
        let filter = match endpoint.method {
            Method::POST => MethodFilter::POST,
            Method::PUT => MethodFilter::PUT,
            Method::DELETE => MethodFilter::DELETE,
            _ => MethodFilter::GET,
        };
        let route = on(filter, handler).layer(from_fn_with_state((self.service.clone(), endpoint.rule), guard));
        self.router = self.router.route(endpoint.path, route);
        self.paths.entry(endpoint.path).or_default().insert(endpoint.method.as_str().to_lowercase(), operation);
        self
    }

    /// The router, and its description as `OpenAPI` 3.1.
    pub fn build(mut self) -> (Router<Service>, Value) {
        let problem = self.generator.subschema_for::<ProblemBody>().to_value();
        let description = json!({
            "openapi": "3.1.0",
            "info": {
                "title": "propflow", "version": env!("CARGO_PKG_VERSION"),
                "description": "Errors are `application/problem+json` (RFC 9457). Every answer has an `x-request-id`. \
                    `x-property-scope` says what it means that a key is limited to properties: `free`, nothing; `all`, such \
                    keys are refused; `own`, they see their own.",
                "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            },
            "tags": self.groups.iter().map(|(name, about)| json!({ "name": name, "description": about })).collect::<Vec<_>>(),
            "paths": self.paths,
            "components": {
                "schemas": self.generator.take_definitions(true),
                "responses": { "Problem": {
                    "description": "What went wrong, and what to do next",
                    "content": { "application/problem+json": { "schema": problem } },
                } },
                "securitySchemes": {
                    "api_key": { "type": "http", "scheme": "bearer", "description": "A key of `propflow keys create`; one of the roles listed is needed." },
                    "signature": { "type": "apiKey", "in": "header", "name": "webhook-signature", "description": "The sender's signature over the raw body, or what its vendor uses in its place." },
                },
            },
        });
        (self.router, description)
    }
}
