//! What a client sends, read without a socket and shown as text; for fuzzing, no stable API.

use hyper::Request;
use hyper::header::{ACCEPT, IF_NONE_MATCH};
use machine_runtime::Schema;

use super::ask::Ask;
use super::client::Client;
use super::query::Query;
use super::routes::Wishes;

/// What a GET of `target` means to a node that shows states of this schema, or why it is refused. None if
/// hyper itself would refuse it.
pub fn read_query(
    target: &str,
    accept: &str,
    if_none_match: &str,
    schema: &Schema,
) -> Option<Result<String, String>> {
    let request = Request::get(target)
        .header(ACCEPT, accept)
        .header(IF_NONE_MATCH, if_none_match)
        .body(())
        .ok()?;
    let wishes = Wishes::read(&request, &Client::Others);
    let query = Query::parse(&wishes.params, schema, true);
    let query = query.map(|query| {
        let states = query.states(schema);
        let representation = wishes.accept.representation();
        let (known, hash) = (&wishes.if_none_match, query.hash());
        format!("{query:?} {states:?} {representation:?} {known:?} {hash}")
    });
    Some(query.map_err(|problem| format!("{problem:?}")))
}

/// What the body of a mutation asks for, or why it is refused.
///
/// # Errors
///
/// The problem that the client would be told.
pub fn read_mutation(body: &[u8], schema: &Schema) -> Result<String, String> {
    let ask = Ask::parse(body, schema).map_err(|problem| format!("{problem:?}"))?;
    Ok(format!("{:?}", ask.mutation))
}
